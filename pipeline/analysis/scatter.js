"use strict";
// A scatter plot of two metrics with their front, drawn by the page itself: matplotlib cannot draw every two beforehand.
const scatter = (() => {
  const WIDTH = 720, HEIGHT = 420, LEFT = 78, RIGHT = 16, TOP = 12, BOTTOM = 52;

  const make = (name, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const written = (value) => {
    for (const [size, name] of [[1e12, " T"], [1e9, " G"], [1e6, " M"], [1e4, " k"]]) {
      if (Math.abs(value) >= size) return Number((value / (size === 1e4 ? 1e3 : size)).toPrecision(3)) + name;
    }
    return String(Number(value.toPrecision(3)));
  };

  // Where an axis has its numbers: 1, 2 and 5 times powers of ten, on a logarithmic one no more than fit.
  const evenTicks = (low, high) => {
    const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
    const first = Math.ceil(low / step - 1e-9);
    return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
  };
  const logTicks = (low, high) => {
    const within = (factors) => {
      const found = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
        for (const factor of factors) found.push(factor * 10 ** power);
      }
      return found.filter((tick) => tick >= low && tick <= high);
    };
    const fitting = [[1, 2, 5], [1, 3], [1]].map(within).find((ticks) => ticks.length <= 8) || within([1]);
    const thinned = fitting.filter((_, at) => at % Math.ceil(fitting.length / 8) === 0);
    return thinned.length > 1 ? thinned : evenTicks(low, high);
  };

  // One axis: where a value lies (0 to 1), its ticks, and where a value that has no logarithm is put.
  const axisOf = (values, isLog) => {
    const positive = values.filter((value) => value > 0);
    const usesLog = isLog && positive.length > 0;
    const floor = usesLog && positive.length < values.length ? Math.min(...positive) / 2 : null;
    const on = (value) => (usesLog ? Math.log10(value > 0 ? value : floor) : value);
    let low = Math.min(...values.map(on)), high = Math.max(...values.map(on));
    if (low === high) { low -= 0.5; high += 0.5; }
    const margin = 0.05 * (high - low);
    low -= margin; high += margin;
    return {
      floor,
      place: (value) => (on(value) - low) / (high - low),
      ticks: usesLog ? logTicks(10 ** low, 10 ** high) : evenTicks(low, high),
    };
  };

  // Which points no other is as good as in both, and better in one; losses: less is better.
  const frontOf = (first, second) => {
    const order = first.map((_, at) => at).sort((a, b) => first[a] - first[b] || second[a] - second[b]);
    const isOn = first.map(() => false);
    let best = Infinity, last = null;
    for (const at of order) {
      const isEqual = last !== null && first[at] === first[last] && second[at] === second[last];
      if (second[at] < best || isEqual) { isOn[at] = true; best = second[at]; last = at; }
    }
    return isOn;
  };

  const drawSide = (svg, axis, isUp, label) => {
    for (const tick of axis.ticks) {
      const at = axis.place(tick);
      const x = LEFT + at * (WIDTH - LEFT - RIGHT), y = HEIGHT - BOTTOM - at * (HEIGHT - BOTTOM - TOP);
      svg.append(isUp
        ? make("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y, class: "grid" })
        : make("line", { x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM, class: "grid" }));
      svg.append(make("text", isUp
        ? { x: LEFT - 7, y: y + 4, "text-anchor": "end" }
        : { x, y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, written(tick)));
    }
    const text = axis.floor === null ? label : `${label}; 0 drawn at ${written(axis.floor)}`;
    const middle = isUp ? (HEIGHT - BOTTOM + TOP) / 2 : (WIDTH + LEFT - RIGHT) / 2;
    svg.append(make("text", isUp
      ? { x: 0, y: 0, "text-anchor": "middle", transform: `translate(16 ${middle}) rotate(-90)` }
      : { x: middle, y: HEIGHT - 12, "text-anchor": "middle" }, text));
  };

  // Draw values [n] of two metrics into an SVG element. Returns the places as fractions of the picture, from the lower
  // left, and which values are on the front.
  const draw = (svg, xs, ys, across, up) => {
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.replaceChildren();
    const x = axisOf(xs, across.log), y = axisOf(ys, up.log);
    drawSide(svg, x, false, across.label);
    drawSide(svg, y, true, up.label);
    const places = xs.map((value, at) => [
      LEFT + x.place(value) * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y.place(ys[at]) * (HEIGHT - BOTTOM - TOP),
    ]);
    const loss = (values, metric) => values.map((value) => (metric.less ? value : -value));
    const isOn = frontOf(loss(xs, across), loss(ys, up));
    const opacity = Math.min(Math.max(12 / Math.sqrt(xs.length || 1), 0.15), 0.7);
    places.forEach(([cx, cy], at) => {
      if (!isOn[at]) svg.append(make("circle", { cx, cy, r: 2.6, opacity, class: "dominated" }));
    });
    const front = places.filter((_, at) => isOn[at]).sort((a, b) => a[0] - b[0] || b[1] - a[1]);
    const corner = ([px, py]) => (across.less ? `H${px}V${py}` : `V${py}H${px}`);
    const path = front.map((spot, at) => (at ? corner(spot) : `M${spot[0]} ${spot[1]}`)).join("");
    svg.append(make("path", { d: path, class: "front" }));
    for (const [cx, cy] of front) svg.append(make("circle", { cx, cy, r: 4, class: "best" }));
    svg.append(make("path", { d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}`, class: "frame" }));
    return { places: places.map(([px, py]) => [px / WIDTH, 1 - py / HEIGHT]), isOn };
  };
  return { draw };
})();
