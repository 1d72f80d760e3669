"use strict";
// The figures as charts: values under the pointer, curves that can be hidden, zoom by dragging.
(() => {
  const FONT = "12px system-ui, sans-serif";
  const HEIGHT = 260;
  const make = (name, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };
  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (hex) => variable("--c" + hex.slice(1)) || hex;
  const number = (value) => {
    if (value == null) return "";
    const size = Math.abs(value);
    if (Number.isInteger(value) || size >= 1e5) return Math.round(value).toLocaleString("en");
    const short = Number(value.toPrecision(4));
    return size < 1e-3 ? short.toExponential() : String(short);
  };

  const nameOf = (axis, line) => line.label || axis.y_title;

  // A short piece of a line, as in its curve.
  const swatch = (line) => {
    const look = `style="stroke: var(--c${line.colour.slice(1)}); fill: var(--c${line.colour.slice(1)})"`;
    const dash = `stroke-width="2.5" stroke-dasharray="${line.dash.join(" ")}"`;
    const box = make("template");
    box.innerHTML =
      '<svg viewBox="0 0 26 11" aria-hidden="true">' +
      (line.width ? `<path d="M0 5.5H26" ${dash} ${look}/>` : "") +
      (line.marker ? `<circle cx="13" cy="5.5" r="3" ${look}/>` : "") +
      "</svg>";
    return box.content;
  };

  // The place nearest to `index` at which a curve has a point.
  const nearest = (values, index) => {
    for (let away = 0; away < values.length; away++) {
      if (values[index - away] != null) return index - away;
      if (values[index + away] != null) return index + away;
    }
    return null;
  };

  const options = (axis, width, onMove) => {
    const scale = (log) => (log ? { time: false, distr: 3, log: 10 } : { time: false });
    const look = { font: FONT, stroke: colour("#000000"), grid: { stroke: variable("--line"), width: 1 },
      ticks: { stroke: variable("--line"), width: 1 } };
    const names = axis.categories;
    return {
      width,
      height: names.length ? HEIGHT + 60 : HEIGHT,
      legend: { show: false },
      padding: [8, 26, 0, 0],
      scales: { x: scale(axis.x_log), y: scale(axis.y_log) },
      cursor: { drag: { x: true, y: false, setScale: true }, points: { size: 7 },
        dataIdx: (plot, series, index) => nearest(plot.data[series], index) ?? index },
      axes: [
        names.length
          ? { ...look, rotate: -60, size: 110, space: 22, incrs: [1, 2, 4, 8, 16, 32],
              values: (plot, places) => places.map((place) => names[place] ?? "") }
          : { ...look, label: axis.x_title, labelFont: FONT, labelSize: 20, space: 60,
              values: axis.x_log ? undefined : (plot, places) => places.map(number) },
        { ...look, size: 62, space: 30, values: (plot, places) => places.map(number) },
      ],
      series: [
        {},
        ...axis.lines.map((line) => ({
          label: nameOf(axis, line),
          stroke: colour(line.colour),
          width: line.width,
          dash: line.dash,
          spanGaps: true,
          points: { show: line.marker, size: 6, fill: colour(line.colour) },
        })),
      ],
      hooks: { setCursor: [onMove] },
    };
  };

  // One figure: a chart for each axis, and one key of names for all of them.
  const draw = (figure, axes) => {
    const hidden = new Set();
    const plots = [];
    const box = make("div", { className: "chart" });
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `${figure.querySelector("h3").textContent}. ${figure.querySelector("img").alt}`);
    const keys = make("div", { className: "keys" });
    const at = make("span", { className: "at" });
    const labels = [...new Set(axes.flatMap((axis) => axis.lines.map((line) => nameOf(axis, line))))];
    const values = {}; // name -> Map axis -> text
    const shown = {};
    const place = (axis, index) =>
      axis.categories.length ? axis.categories[index] : `${axis.x_title || "at"} ${number(axis.x[index])}`;

    // Each name has a value of every axis that it has a curve in.
    const tell = (axis, index) => {
      at.textContent = place(axis, index);
      axis.lines.forEach((line) => {
        const found = nearest(line.y, index);
        if (found != null) values[nameOf(axis, line)].set(axis, number(line.y[found]));
      });
      for (const [label, known] of Object.entries(values)) shown[label].textContent = [...known.values()].join(" | ");
    };
    const tellEnds = () => axes.forEach((axis) => tell(axis, axis.x.length - 1));
    const toggle = (label, button) => {
      hidden.has(label) ? hidden.delete(label) : hidden.add(label);
      button.setAttribute("aria-pressed", String(!hidden.has(label)));
      hide();
    };
    const hide = () =>
      plots.forEach(({ plot, axis }) =>
        axis.lines.forEach((line, i) => plot.setSeries(i + 1, { show: !hidden.has(nameOf(axis, line)) })));

    labels.forEach((label) => {
      const line = axes.flatMap((axis) => axis.lines.map((each) => ({ ...each, name: nameOf(axis, each) })))
        .find((each) => each.name === label);
      values[label] = new Map();
      shown[label] = make("b");
      const button = make("button", { type: "button" }, swatch(line), label, shown[label]);
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => toggle(label, button));
      keys.append(button);
    });
    const zoom = (factor) =>
      plots.forEach(({ plot, axis }) => {
        const { min, max } = plot.scales.x;
        const first = axis.x[0];
        const last = axis.x[axis.x.length - 1];
        const centre = plot.cursor.idx == null ? (min + max) / 2 : axis.x[plot.cursor.idx];
        const half = ((max - min) * factor) / 2;
        plot.setScale("x", factor ? { min: Math.max(first, centre - half), max: Math.min(last, centre + half) } : { min: first, max: last });
      });
    const control = (text, title, factor) => {
      const button = make("button", { type: "button", textContent: text, title });
      button.setAttribute("aria-label", title);
      button.addEventListener("click", () => zoom(factor));
      keys.append(button);
    };
    if (axes.some((axis) => axis.x.length > 3)) {
      control("+", "Zoom in", 0.5);
      control("−", "Zoom out", 2);
      control("All", "Show all", 0);
    }
    keys.append(at);
    const move = (by) => {
      const { plot, axis } = plots[0];
      const last = axis.x.length - 1;
      const index = Math.min(last, Math.max(0, (plot.cursor.idx ?? last) + by));
      plot.setCursor({ left: plot.valToPos(axis.x[index], "x"), top: 1 });
    };
    const pressed = { ArrowLeft: () => move(-1), ArrowRight: () => move(1), "+": () => zoom(0.5), "-": () => zoom(2), Escape: () => zoom(0) };
    box.addEventListener("keydown", (event) => {
      if (event.target !== box || !pressed[event.key]) return;
      event.preventDefault();
      pressed[event.key]();
    });

    figure.querySelector(".zoom").after(box);
    figure.classList.add("drawn");
    box.append(keys);
    const build = () => {
      plots.splice(0).forEach(({ plot }) => plot.root.remove());
      box.querySelectorAll(".title, .y-title").forEach((each) => each.remove());
      axes.forEach((axis) => {
        if (axis.title) box.append(make("div", { className: "title", textContent: axis.title }));
        if (axis.y_title) box.append(make("div", { className: "y-title", textContent: axis.y_title }));
        const onMove = (plot) => (plot.cursor.idx == null ? tellEnds() : tell(axis, plot.cursor.idx));
        const data = [axis.x, ...axis.lines.map((line) => line.y)];
        plots.push({ axis, plot: new uPlot(options(axis, box.clientWidth - 10, onMove), data, box) });
      });
      hide();
      tellEnds();
    };
    build();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", build);
    new ResizeObserver(() =>
      plots.forEach(({ plot }) => {
        if (plot.width !== box.clientWidth - 10) plot.setSize({ width: box.clientWidth - 10, height: plot.height });
      })).observe(box);
    return plots;
  };

  document.querySelectorAll(".chart-data").forEach((data) => {
    const figure = data.closest("figure");
    figure.charts = draw(figure, JSON.parse(data.textContent));
  });
})();
