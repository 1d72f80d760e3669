"use strict";
// The figures as charts: values under the pointer, curves that can be hidden, zoom by dragging.
(() => {
  const FONT = "12px system-ui, sans-serif";
  const HEIGHT = 260;
  const ROW = 38;
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

  const isPlane = (axis) => "across" in axis.lines[0];
  const isRows = (axis) => "low" in axis.lines[0];
  const isPath = (axis) => isPlane(axis) && !isRows(axis);

  // A short piece of a line, as in its curve, or of a bar.
  const swatch = (line) => {
    const look = `style="stroke: var(--c${line.colour.slice(1)}); fill: var(--c${line.colour.slice(1)})"`;
    const isBar = "low" in line && !line.marker;
    const dash = `stroke-width="${isBar ? 9 : 2.5}" stroke-dasharray="${line.dash.join(" ")}"`;
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

  // A path in the plane: its points in the order of the steps, and a disc at its end.
  const path = (plot, i) => {
    const stroke = new Path2D();
    const fill = new Path2D();
    uPlot.orient(plot, i, (series, xs, ys, across, up, toX, toY, left, top, width, height) => {
      xs.forEach((x, k) => {
        const at = [toX(x, across, width, left), toY(ys[k], up, height, top)];
        stroke[k ? "lineTo" : "moveTo"](...at);
        if (k === xs.length - 1) fill.arc(...at, 5 * devicePixelRatio, 0, 2 * Math.PI);
      });
    });
    return { stroke, fill };
  };

  // A bar, or a disc and its whiskers, in the row that has one; a rule across all rows.
  const row = (line) => (plot, i) => {
    const stroke = new Path2D();
    const fill = new Path2D();
    uPlot.orient(plot, i, (series, xs, ys, across, up, toX, toY, left, top, width, height) => {
      const pixels = devicePixelRatio;
      const x = (value) => toX(value, across, width, left);
      const y = (place) => toY(place, up, height, top) + 6 * pixels; // below its name
      if (!("low" in line)) {
        stroke.moveTo(x(xs[0]), top);
        stroke.lineTo(x(xs[0]), top + height);
        return;
      }
      const place = y(ys.find((each) => each != null));
      const [low, high, value] = [line.low, line.high, xs.find((each) => each != null)].map(x);
      if (!line.marker) return fill.rect(low, place - 5 * pixels, high - low, 10 * pixels);
      stroke.moveTo(low, place);
      stroke.lineTo(high, place);
      for (const end of [low, high]) {
        stroke.moveTo(end, place - 4 * pixels);
        stroke.lineTo(end, place + 4 * pixels);
      }
      fill.arc(value, place, 4 * pixels, 0, 2 * Math.PI);
    });
    return { stroke, fill };
  };

  // The names of the rows that are shown, each above its bar.
  const nameRows = (plot, axis) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.font = FONT.replace("12", 12 * devicePixelRatio);
    ctx.fillStyle = colour("#000000");
    Object.assign(ctx, { textAlign: "left", textBaseline: "bottom" });
    axis.categories.forEach((name, i) => {
      if (plot.series[i + 1].show) ctx.fillText(name, bbox.left + 4 * devicePixelRatio, plot.valToPos(i, "y", true));
    });
    ctx.restore();
  };

  // The step whose point, of any path that is shown, is nearest to the pointer.
  const nearestStep = (plot, lines) => {
    const { left, top } = plot.cursor;
    let best = [Infinity, 0];
    lines.forEach((line, i) => {
      if (!plot.series[i + 1].show) return;
      line.across.forEach((x, k) => {
        const away = Math.hypot(plot.valToPos(x, "x") - left, plot.valToPos(line.y[k], "y") - top);
        if (away < best[0]) best = [away, k];
      });
    });
    return best[1];
  };

  // Where the pointer is: a place of the curves, or a step of the paths; null where it is nowhere.
  const under = (plot) => plot.cursor.idx ?? plot.cursor.idxs?.[1] ?? null;

  const span = (values) => [Math.min(...values), Math.max(...values)];

  // All of the rows, and zero.
  const showRows = (plot, axis) => {
    const ends = axis.lines.flatMap((line) => [line.low, line.high, ...line.across]);
    const [low, high] = span([0, ...ends.filter((each) => each != null)]);
    const margin = (high - low || 1) / 20;
    plot.setScale("x", { min: low && low - margin, max: high && high + margin });
  };

  // All of a path, both of its axes in the same unit.
  const showPath = (plot, axis) => {
    const ends = { x: span(axis.lines.flatMap((line) => line.across)), y: span(axis.lines.flatMap((line) => line.y)) };
    const size = { x: plot.bbox.width, y: plot.bbox.height };
    const unit = Math.max(...["x", "y"].map((key) => (1.1 * (ends[key][1] - ends[key][0])) / size[key])) || 1;
    for (const key of ["x", "y"]) {
      const centre = (ends[key][0] + ends[key][1]) / 2;
      plot.setScale(key, { min: centre - (unit * size[key]) / 2, max: centre + (unit * size[key]) / 2 });
    }
  };

  // What differs between a plane and curves over x: each line has its own places on both axes.
  const ofPlane = (axis, paths) => ({
    mode: 2,
    height: 1.4 * HEIGHT,
    scales: Object.fromEntries(["x", "y"].map((key) => [key, { time: false, range: (plot, min, max) => [min, max] }])),
    cursor: { drag: { x: true, y: true, setScale: true }, points: { size: 7 },
      dataIdx: (plot) => nearestStep(plot, axis.lines) },
    series: [
      {},
      ...axis.lines.map((line) => ({
        label: nameOf(axis, line), stroke: colour(line.colour), fill: colour(line.colour), width: line.width,
        dash: line.dash, paths: paths(line), points: { show: false }, facets: [{ scale: "x", auto: true }, { scale: "y", auto: true }],
      })),
    ],
  });

  // What differs between rows, the first above, and paths.
  const ofRows = (axis, usual, onMove) => {
    const plane = ofPlane(axis, row);
    return {
      ...plane,
      height: axis.x.length * ROW + 60,
      scales: { x: plane.scales.x, y: { time: false, range: [-0.5, axis.x.length - 0.5], dir: -1 } },
      cursor: { drag: { x: true, y: false, setScale: true }, points: { show: false },
        dataIdx: (plot) => Math.min(axis.x.length - 1, Math.max(0, Math.round(plot.posToVal(plot.cursor.top, "y")))) },
      axes: [usual.axes[0], { show: false }],
      padding: [8, 26, 0, 12],
      hooks: { setCursor: [onMove], draw: [(plot) => nameRows(plot, axis)] },
    };
  };

  const options = (axis, width, onMove) => {
    const scale = (log) => (log ? { time: false, distr: 3, log: 10 } : { time: false });
    const look = { font: FONT, stroke: colour("#000000"), grid: { stroke: variable("--line"), width: 1 },
      ticks: { stroke: variable("--line"), width: 1 } };
    const names = isRows(axis) ? [] : axis.categories;
    const usual = {
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
    const special = isRows(axis) ? ofRows(axis, usual, onMove) : isPath(axis) ? ofPlane(axis, () => path) : {};
    return { ...usual, ...special };
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
      isPath(axis) ? `optimizer step ${number(axis.x[index])}` : axis.categories.length ? axis.categories[index] : `${axis.x_title || "at"} ${number(axis.x[index])}`;

    const told = (axis, line, index) => {
      if (!isPlane(axis)) return number(line.y[index]);
      if (isPath(axis)) return `${number(line.across[index])}, ${number(line.y[index])}`;
      const ends = line.marker && line.low < line.high ? ` (${number(line.low)} to ${number(line.high)})` : "";
      return number(line.across[index]) + ends;
    };

    // Each name has a value of every axis that it has a curve in.
    const tell = (axis, index) => {
      at.textContent = place(axis, index);
      axis.lines.forEach((line) => {
        const found = nearest(line.y, index);
        if (found != null) values[nameOf(axis, line)].set(axis, told(axis, line, found));
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
      plots.forEach(({ plot, axis }) => {
        const seen = ["x", "y"].map((key) => [key, { min: plot.scales[key].min, max: plot.scales[key].max }]);
        axis.lines.forEach((line, i) => plot.setSeries(i + 1, { show: !hidden.has(nameOf(axis, line)) }));
        // uPlot would fit a plane to what is left, each axis in a unit of its own.
        if (isPlane(axis)) seen.forEach(([key, { min, max }]) => min != null && plot.setScale(key, { min, max }));
      });

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
    const showAll = (plot, axis) => (isRows(axis) ? showRows : showPath)(plot, axis);
    const pointAt = (axis, index) => {
      const { across, y } = axis.lines.find((line) => line.y[index] != null);
      return { x: across[index], y: y[index] };
    };
    const zoomPlane = (plot, axis, factor) => {
      if (!factor) return showAll(plot, axis);
      const at = under(plot) == null ? {} : pointAt(axis, under(plot));
      for (const key of isRows(axis) ? ["x"] : ["x", "y"]) {
        const { min, max } = plot.scales[key];
        const [centre, half] = [at[key] ?? (min + max) / 2, ((max - min) * factor) / 2];
        plot.setScale(key, { min: centre - half, max: centre + half });
      }
    };
    const zoom = (factor) =>
      plots.forEach(({ plot, axis }) => {
        if (isPlane(axis)) return zoomPlane(plot, axis, factor);
        const { min, max } = plot.scales.x;
        const first = axis.x[0];
        const last = axis.x[axis.x.length - 1];
        const centre = under(plot) == null ? (min + max) / 2 : axis.x[under(plot)];
        const half = ((max - min) * factor) / 2;
        plot.setScale("x", factor ? { min: Math.max(first, centre - half), max: Math.min(last, centre + half) } : { min: first, max: last });
      });
    const control = (text, title, factor) => {
      const button = make("button", { type: "button", textContent: text, title });
      button.setAttribute("aria-label", title);
      button.addEventListener("click", () => zoom(factor));
      keys.append(button);
    };
    if (axes.some((axis) => axis.x.length > 3 || isRows(axis))) {
      control("+", "Zoom in", 0.5);
      control("−", "Zoom out", 2);
      control("All", "Show all", 0);
    }
    keys.append(at);
    const move = (by) => {
      const { plot, axis } = plots[0];
      const last = axis.x.length - 1;
      const index = Math.min(last, Math.max(0, (under(plot) ?? last) + by));
      const { x, y } = isPlane(axis) ? pointAt(axis, index) : { x: axis.x[index] };
      plot.setCursor({ left: plot.valToPos(x, "x"), top: y == null ? 1 : plot.valToPos(y, "y") });
    };
    const pressed = { ArrowLeft: () => move(-1), ArrowRight: () => move(1), "+": () => zoom(0.5), "-": () => zoom(2), Escape: () => zoom(0) };
    box.addEventListener("keydown", (event) => {
      if (event.target !== box || !pressed[event.key]) return;
      event.preventDefault();
      pressed[event.key]();
    });

    figure.querySelector("img").after(box);
    figure.classList.add("drawn");
    box.append(keys);
    const build = () => {
      plots.splice(0).forEach(({ plot }) => plot.root.remove());
      box.querySelectorAll(".title, .y-title").forEach((each) => each.remove());
      axes.forEach((axis) => {
        if (axis.title) box.append(make("div", { className: "title", textContent: axis.title }));
        if (axis.y_title) box.append(make("div", { className: "y-title", textContent: axis.y_title }));
        const onMove = (plot) => (under(plot) == null ? tellEnds() : tell(axis, under(plot)));
        const data = isPlane(axis)
          ? [null, ...axis.lines.map((line) => [line.across, line.y])]
          : [axis.x, ...axis.lines.map((line) => line.y)];
        const plot = new uPlot(options(axis, box.clientWidth - 10, onMove), data, box);
        plots.push({ axis, plot });
        if (isPlane(axis)) requestAnimationFrame(() => showAll(plot, axis));
      });
      hide();
      tellEnds();
    };
    build();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", build);
    new ResizeObserver(() =>
      plots.forEach(({ plot, axis }) => {
        if (plot.width === box.clientWidth - 10) return;
        plot.setSize({ width: box.clientWidth - 10, height: plot.height });
        if (isPlane(axis)) showAll(plot, axis);
      })).observe(box);
    return plots;
  };

  document.querySelectorAll(".chart-data").forEach((data) => {
    const figure = data.closest("figure");
    figure.charts = draw(figure, JSON.parse(data.textContent));
  });
})();
