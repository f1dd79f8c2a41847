// Values under the pointer, things to switch off, and all details on paper. The page works without it.
(() => {
  "use strict";
  const off = new Set();
  const named = [...document.querySelectorAll("[data-series], [data-about]")];
  const nameOf = (element) => (element.dataset.series ?? element.dataset.about).split(", ")[0];
  const known = new Set(named.map(nameOf));
  const buttons = [];

  function show() {
    for (const element of named) element.classList.toggle("off", off.has(nameOf(element)));
    for (const button of buttons) button.setAttribute("aria-pressed", String(!off.has(button.value)));
  }

  for (const item of document.querySelectorAll("[data-switch]")) {
    if (!known.has(item.dataset.switch)) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.value = item.dataset.switch;
    button.title = "show or hide";
    button.append(...item.childNodes);
    item.append(button);
    button.addEventListener("click", () => {
      if (!off.delete(button.value)) off.add(button.value);
      show();
    });
    buttons.push(button);
  }
  for (const element of document.querySelectorAll(".switches")) element.hidden = false;
  show();

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);

  const number = (value) => String(Number(value.toPrecision(3)));
  const worded = (axis, value) => (axis.share ? `${number(100 * value)} %` : number(value));

  function valueAt(axis, place) {
    const [near, far, low, high] = axis.ends;
    const part = (place - near) / (far - near);
    return axis.log ? low * (high / low) ** part : low + part * (high - low);
  }

  // The height of a drawn line at a place, by its first piece there; null beside it.
  function heightAt(path, place) {
    path.corners ??= [...path.getAttribute("d").matchAll(/(-?[\d.]+) (-?[\d.]+)/g)].map((pair) => [
      Number(pair[1]),
      Number(pair[2]),
    ]);
    for (let i = 1; i < path.corners.length; i++) {
      const [[x0, y0], [x1, y1]] = [path.corners[i - 1], path.corners[i]];
      if (x0 !== x1 && (place - x0) * (place - x1) <= 0) {
        return y0 + ((y1 - y0) * (place - x0)) / (x1 - x0);
      }
    }
    return null;
  }

  function cellAt(cells, x, y) {
    const [left, right, bottom, top] = cells.extent;
    const [rows, columns] = cells.shape;
    const column = Math.floor(((x - left) / (right - left)) * columns);
    const part = (y - bottom) / (top - bottom);
    const row = Math.floor((cells.up ? part : 1 - part) * rows);
    if (column < 0 || column >= columns || row < 0 || row >= rows) return [];
    cells.list ??= cells.values.split(",");
    const value = cells.list[row * columns + column] || "0";
    const [of, from] = cells.names;
    if (of) return [`${of[column]}, ${from[row]}: ${value}`];
    return [`${number(x)}, ${number(y)}: ${value}`];
  }

  function linesAt(svg, axes, at) {
    const found = [];
    for (const series of svg.querySelectorAll("[data-series]:not(.off)")) {
      const marks = [...series.querySelectorAll("use")];
      for (const mark of marks) {
        const place = { x: mark.x.baseVal.value, y: mark.y.baseVal.value };
        if (Math.hypot(place.x - at.x, place.y - at.y) > 7) continue;
        // An axis without a name has names for its places: the other one has the value.
        const axis = axes.x.label ? "x" : "y";
        found.push(`${series.dataset.series}: ${worded(axes[axis], valueAt(axes[axis], place[axis]))}`);
      }
      const path = marks.length ? null : series.querySelector("path");
      const height = path && heightAt(path, at.x);
      if (height !== null) {
        found.push(`${series.dataset.series}: ${worded(axes.y, valueAt(axes.y, height))}`);
      }
    }
    const isLine = found.length && svg.querySelector("use") === null;
    if (axes.x.label && (isLine || found.length > 1)) {
      found.unshift(`${axes.x.label} ${worded(axes.x, valueAt(axes.x, at.x))}`);
    }
    return found;
  }

  for (const svg of document.querySelectorAll("svg[data-axes]")) {
    const axes = JSON.parse(svg.dataset.axes);
    svg.addEventListener("pointermove", (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const inside = ["x", "y"].every((name) => {
        const [near, far] = axes[name].ends;
        return (at[name] - near) * (at[name] - far) <= 0;
      });
      const texts = !inside
        ? []
        : axes.cells
          ? cellAt(axes.cells, valueAt(axes.x, at.x), valueAt(axes.y, at.y))
          : linesAt(svg, axes, at);
      tip.hidden = !texts.length;
      tip.replaceChildren(
        ...texts.map((text) => Object.assign(document.createElement("div"), { textContent: text })),
      );
      const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
      tip.style.left = `${Math.max(0, Math.min(event.clientX + 14, room))}px`;
      tip.style.top = `${Math.max(0, event.clientY - tip.offsetHeight - 12)}px`;
    });
    svg.addEventListener("pointerleave", () => (tip.hidden = true));
  }

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const each of closed) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of closed) each.open = false;
  });
})();
