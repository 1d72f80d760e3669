"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  // The slider: same noise, other epoch or other weights.
  const data = byId("pictures") && JSON.parse(byId("pictures").textContent);
  if (data) {
    const epoch = byId("epoch");
    const set = byId("set");
    const show = (image, row, column) => {
      image.src = "data:image/png;base64," + data.images[row][column];
      image.alt = `Samples of ${data.sets[column]} at epoch ${data.epochs[row]}`;
    };
    const update = () => {
      const row = Number(epoch.value);
      byId("epoch-shown").textContent = data.epochs[row];
      epoch.setAttribute("aria-valuetext", `epoch ${data.epochs[row]}`);
      show(byId("left"), row, 0);
      document.querySelectorAll(".each").forEach((image, column) => show(image, row, column));
      if (set) {
        const column = Number(set.value);
        byId("set-shown").textContent = data.sets[column];
        byId("right-name").textContent = data.sets[column];
        set.setAttribute("aria-valuetext", data.sets[column]);
        show(byId("right"), row, column);
      }
    };
    for (const slider of [epoch, set]) {
      if (slider) slider.addEventListener("input", update);
    }
    update(); // a reloaded page keeps its sliders where they were
  }

  // Tables: a heading sorts by its column, a second time the other way; empty cells stay last.
  const compare = (a, b) => {
    const x = Number(a);
    const y = Number(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  document.querySelectorAll(".sort").forEach((button) => {
    button.addEventListener("click", () => {
      const heading = button.parentElement;
      const row = heading.parentElement;
      const column = [...row.children].indexOf(heading);
      const down = heading.getAttribute("aria-sort") === "ascending";
      [...row.children].forEach((each) => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = row.closest("table").tBodies[0];
      const value = (each) => each.children[column].dataset.value;
      [...body.rows]
        .sort((a, b) => {
          const x = value(a);
          const y = value(b);
          if (x === "" || y === "") return (x === "") - (y === "");
          return down ? compare(y, x) : compare(x, y);
        })
        .forEach((each) => body.append(each));
    });
  });

  // Commands: copied; where the browser keeps the clipboard to itself, they are marked instead.
  document.querySelectorAll(".copy").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const command = byId(button.dataset.of);
      try {
        await navigator.clipboard.writeText(command.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(command);
        button.textContent = "Marked: copy it now";
      }
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
  });

  // On paper every section is open.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((each) => (each.open = true));
  });
  addEventListener("afterprint", () => closed.forEach((each) => (each.open = false)));
})();
