"use strict";
// The page without this script is whole; with it, figures answer the pointer. No library: the marks' places come with
// the page, as fractions of each figure, so all that is left is to find the nearest one and to draw rings.
(() => {
  const source = document.getElementById("explorer-data");
  const REACH_PX = 14;
  const MISSING = 65535, SCALE = 65000;

  // Tables: sort by a click on a column's head, filter by a text -------------------------------------------------
  const number = (text) => {
    const found = text.replace(/,/g, "").match(/^[^\d+-]*([+-]?\d+(\.\d+)?(e[+-]?\d+)?)/i);
    return found ? parseFloat(found[1]) : NaN;
  };
  const compare = (a, b) => {
    const x = number(a), y = number(b);
    if (!Number.isNaN(x) && !Number.isNaN(y) && x !== y) return x - y;
    return a.localeCompare(b, undefined, { numeric: true });
  };
  const sortRows = (table, column, ascending) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((a, b) => compare(a.cells[column].textContent, b.cells[column].textContent));
    body.append(...(ascending ? rows : rows.reverse()));
  };
  const makeSortable = (table, onSort) => {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const ascending = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        onSort(column, ascending);
      });
    });
  };
  for (const table of document.querySelectorAll("figure table")) {
    makeSortable(table, (column, ascending) => sortRows(table, column, ascending));
    if (table.tBodies[0].rows.length < 6) continue;
    const box = document.createElement("input");
    box.type = "search";
    box.placeholder = "filter rows";
    box.className = "filter-rows";
    box.setAttribute("aria-label", "Show only rows with this text");
    box.addEventListener("input", () => {
      const wanted = box.value.trim().toLowerCase();
      for (const row of table.tBodies[0].rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
    table.closest(".scroll").before(box);
  }

  // Texts to copy -------------------------------------------------------------------------------------------------
  const copy = async (text, node, button) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const range = document.createRange();
      range.selectNodeContents(node);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy");
    }
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  };
  const copyButton = (node) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "copy";
    button.addEventListener("click", () => copy(node.textContent, node, button));
    return button;
  };
  for (const pre of document.querySelectorAll(".code pre")) pre.before(copyButton(pre));
  if (!source) return;

  // The run's data ------------------------------------------------------------------------------------------------
  const data = JSON.parse(source.textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  const { configurations, evaluations, budgets, metric } = data;
  const colours = budgets.map((budget) => budget.colour);
  const figures = new Map();
  const addFigure = (plot, sets) => {
    const figure = { plot, sets, canvas: document.createElement("canvas"), image: plot.querySelector("img, svg") };
    plot.append(figure.canvas);
    figures.set(plot.dataset.figure, figure);
    return figure;
  };
  // Rows of a table, in two or four bytes each; a number: all of so many.
  const rowsOf = ({ rows, y, points }) => {
    if (typeof rows === "number") return Uint32Array.from({ length: rows }, (_, row) => row);
    const packed = bytes(rows);
    return 2 * y.length === packed.byteLength * points ? new Uint16Array(packed) : new Uint32Array(packed);
  };
  for (const plot of document.querySelectorAll(".plot")) {
    const sets = (data.figures[plot.dataset.figure] || []).map((set) => ({
      ...set,
      x: new Uint16Array(bytes(set.x)),
      y: new Uint16Array(bytes(set.y)),
    })).map((set) => ({ ...set, rows: rowsOf(set) }));
    if (sets.length) addFigure(plot, sets);
  }
  const configurationOf = (set, at) =>
    set.of === "evaluation" ? evaluations.configuration[set.rows[at]] : set.rows[at];
  const evaluationsOf = configurations.ids.map(() => []);
  evaluations.configuration.forEach((c, row) => { if (c >= 0) evaluationsOf[c].push(row); });

  // What matches the filter ---------------------------------------------------------------------------------------
  let pinned = null, hovered = null, isFiltering = false;
  let keepEvaluation = new Uint8Array(evaluations.configuration.length).fill(1);
  let keepConfiguration = new Uint8Array(configurations.ids.length).fill(1);
  const panel = document.getElementById("explorer");
  panel.hidden = false;
  const form = panel.querySelector("form");
  const checked = (name) => new Set([...form.querySelectorAll(`input[name=${name}]:checked`)].map((i) => i.value));

  const applyFilter = () => {
    const wantedBudgets = checked("budget"), states = checked("state"), proposals = checked("proposal");
    const bracket = form.elements.bracket.value.trim();
    const ranges = [...form.querySelectorAll("[data-hyperparameter]")].map((row) => {
      const [low, high] = [...row.querySelectorAll("input")].map((input) => input.value);
      return { values: configurations.values[row.dataset.hyperparameter], low, high };
    }).filter((range) => range.low !== "" || range.high !== "");
    const inRanges = (c) => ranges.every(({ values, low, high }) => {
      const value = values[c];
      if (value === null) return false;
      if (typeof value === "string") return value.includes(low || high);
      return (low === "" || value >= Number(low)) && (high === "" || value <= Number(high));
    });
    keepConfiguration = Uint8Array.from(configurations.ids, (id, c) =>
      (bracket === "" || id.split("-")[0] === bracket) && proposals.has(configurations.model[c] ? "model" : "random")
      && inRanges(c) ? 1 : 0);
    const fits = (row) => keepConfiguration[evaluations.configuration[row]]
      && wantedBudgets.has(String(evaluations.budget[row])) && states.has(data.states[evaluations.state[row]]);
    keepEvaluation = Uint8Array.from(evaluations.configuration, (c, row) => (c >= 0 && fits(row) ? 1 : 0));
    // A configuration is kept with its evaluations: one without any fitting evaluation goes, too.
    const narrowed = form.querySelector("input[name=budget]:not(:checked), input[name=state]:not(:checked)");
    if (narrowed) {
      keepConfiguration = keepConfiguration.map((kept, c) => (kept && evaluationsOf[c].some((r) => keepEvaluation[r]) ? 1 : 0));
    }
    const count = keepEvaluation.reduce((sum, kept) => sum + kept, 0);
    isFiltering = count < keepEvaluation.length || keepConfiguration.includes(0);
    panel.querySelector("[role=status]").textContent = `${count} of ${keepEvaluation.length} evaluations`;
    redraw();
    fillTable();
  };

  // Drawing -------------------------------------------------------------------------------------------------------
  const place = (figure, set, at) => {
    const { width, height } = figure.canvas;
    const x = set.x[set.x.length === set.points ? at % set.points : at], y = set.y[at];
    return x === MISSING || y === MISSING ? null : [(x / SCALE) * width, (1 - y / SCALE) * height];
  };
  const trace = (context, figure, set, item) => {
    context.beginPath();
    let isDown = false;
    for (let at = item * set.points; at < (item + 1) * set.points; at += 1) {
      const spot = place(figure, set, at);
      if (spot && isDown) context.lineTo(...spot);
      else if (spot) context.moveTo(...spot);
      isDown = spot !== null;
    }
    context.stroke();
  };
  const dot = (context, figure, set, item, radius, isRing) => {
    const spot = place(figure, set, item);
    if (!spot) return;
    context.beginPath();
    context.arc(spot[0], spot[1], radius, 0, 2 * Math.PI);
    if (isRing) context.stroke();
    else context.fill();
  };
  const kept = (set, item) =>
    (set.of === "evaluation" ? keepEvaluation[set.rows[item]] : keepConfiguration[set.rows[item]]);
  const colourOf = (set, item) => (set.of === "evaluation" ? colours[evaluations.budget[set.rows[item]]] : "#0072B2");
  const draw = (figure) => {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = figure.plot;
    figure.canvas.width = clientWidth * ratio;
    figure.canvas.height = clientHeight * ratio;
    const context = figure.canvas.getContext("2d");
    figure.image.classList.toggle("dimmed", isFiltering);
    for (const set of figure.sets) {
      if (isFiltering) {
        context.globalAlpha = set.points > 1 ? 0.4 : 0.75;
        context.lineWidth = ratio;
        for (let item = 0; item < set.rows.length; item += 1) {
          if (!kept(set, item)) continue;
          context.strokeStyle = context.fillStyle = colourOf(set, item);
          if (set.points > 1) trace(context, figure, set, item);
          else dot(context, figure, set, item, 2.4 * ratio, false);
        }
        context.globalAlpha = 1;
      }
      for (const [wanted, colour, width] of [[pinned, "#D5007F", 2.6], [hovered, "#111111", 1.6]]) {
        if (wanted === null) continue;
        context.strokeStyle = colour;
        context.lineWidth = width * ratio;
        for (let item = 0; item < set.rows.length; item += 1) {
          if (configurationOf(set, item) !== wanted) continue;
          if (set.points > 1) trace(context, figure, set, item);
          else dot(context, figure, set, item, 6 * ratio, true);
        }
      }
    }
  };
  const visible = new Set();
  const redraw = () => { for (const figure of visible) draw(figure); };
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const figure = figures.get(entry.target.dataset.figure);
      if (entry.isIntersecting) { visible.add(figure); draw(figure); } else visible.delete(figure);
    }
  });
  window.addEventListener("resize", redraw);

  // Pointing ------------------------------------------------------------------------------------------------------
  const toSegment = (px, py, a, b) => {
    const dx = b[0] - a[0], dy = b[1] - a[1];
    const t = Math.max(0, Math.min(1, ((px - a[0]) * dx + (py - a[1]) * dy) / (dx * dx + dy * dy || 1)));
    return Math.hypot(px - a[0] - t * dx, py - a[1] - t * dy);
  };
  const nearest = (figure, px, py) => {
    let best = null, distance = REACH_PX * (window.devicePixelRatio || 1);
    for (const set of figure.sets) {
      for (let item = 0; item < set.rows.length; item += 1) {
        if (isFiltering && !kept(set, item)) continue;
        let before = null;
        for (let at = item * set.points; at < (item + 1) * set.points; at += 1) {
          const spot = place(figure, set, at);
          if (spot) {
            const away = before && set.points > 1 ? toSegment(px, py, before, spot) : Math.hypot(px - spot[0], py - spot[1]);
            if (away < distance) { distance = away; best = { set, item }; }
          }
          before = spot;
        }
      }
    }
    return best;
  };
  const short = (value) => (value === null ? "–" : typeof value === "number" && !Number.isInteger(value)
    ? String(Number(value.toPrecision(4))) : String(value));
  const withUnit = (number, unit) => number + (unit === "" || unit === "%" ? "" : " ") + unit;
  const error = (value) => {
    if (value === null) return "–";
    const written = metric.factor * value;
    return withUnit(metric.digits === null ? short(written) : written.toFixed(metric.digits), metric.unit);
  };
  const describe = (c, row) => {
    const lines = [`${configurations.ids[c]} · ${configurations.model[c] ? "proposed by the model" : "drawn at random"}`];
    for (const r of evaluationsOf[c]) {
      const name = `${budgets[evaluations.budget[r]].label}: ${error(evaluations.loss[r])}`;
      const state = data.states[evaluations.state[r]];
      lines.push((r === row ? "▸ " : "") + (state === "finished" ? name : `${name} (${state})`));
    }
    return lines;
  };
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const showTip = (event, c, row, more) => {
    tip.replaceChildren(...[...describe(c, row), ...more].map((line) => Object.assign(document.createElement("p"), { textContent: line })));
    const values = document.createElement("p");
    values.className = "values";
    values.textContent = data.names.map(({ name, label }) => `${label} ${short(configurations.values[name][c])}`).join(" · ");
    tip.append(values);
    tip.hidden = false;
    const left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
    const top = event.clientY + 18 + tip.offsetHeight > window.innerHeight ? event.clientY - tip.offsetHeight - 12 : event.clientY + 18;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, top)}px`;
  };
  const at = (figure, event) => {
    const box = figure.canvas.getBoundingClientRect();
    const scale = figure.canvas.width / box.width;
    return nearest(figure, (event.clientX - box.left) * scale, (event.clientY - box.top) * scale);
  };
  const hover = (c) => { if (c !== hovered) { hovered = c; redraw(); } };
  const answerPointer = (figure) => {
    watcher.observe(figure.plot);
    figure.plot.addEventListener("pointermove", (event) => {
      const found = at(figure, event);
      figure.plot.classList.toggle("hit", found !== null);
      if (!found) { tip.hidden = true; hover(null); return; }
      const c = configurationOf(found.set, found.item);
      hover(c);
      const row = found.set.of === "evaluation" ? found.set.rows[found.item] : -1;
      showTip(event, c, row, figure.tell ? figure.tell(row) : []);
    });
    figure.plot.addEventListener("pointerleave", () => { tip.hidden = true; hover(null); });
    figure.plot.addEventListener("click", (event) => {
      const found = at(figure, event);
      if (found) pin(configurationOf(found.set, found.item));
    });
  };
  figures.forEach(answerPointer);

  // The pinned configuration --------------------------------------------------------------------------------------
  const pinBox = document.getElementById("pinned");
  const pin = (c) => {
    pinned = c === pinned ? null : c;
    pinBox.hidden = pinned === null;
    pinBox.dataset.configuration = pinned === null ? "" : configurations.ids[pinned];
    if (pinned !== null) {
      const title = Object.assign(document.createElement("p"), { className: "pin-title", textContent: `Pinned: ${configurations.ids[pinned]}` });
      const runs = Object.assign(document.createElement("p"), { textContent: describe(pinned, -1).slice(1).join(" · ") });
      const text = Object.assign(document.createElement("pre"), {
        textContent: data.names.map(({ name }) => `${name}: ${short(configurations.values[name][pinned])}`).join("\n"),
      });
      const off = Object.assign(document.createElement("button"), { type: "button", className: "copy", textContent: "unpin" });
      off.addEventListener("click", () => pin(pinned));
      const full = document.createElement("details");
      full.append(Object.assign(document.createElement("summary"), { textContent: "values as YAML" }), copyButton(text), text);
      pinBox.replaceChildren(title, runs, full, off);
    }
    redraw();
    for (const row of [...table.tBodies[0].rows, ...rowsAbout]) {
      row.classList.toggle("pinned", Number(row.dataset.configuration) === pinned);
    }
  };
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && pinned !== null) pin(pinned); });

  // Rows of the report's own tables that are about one configuration
  const numberOf = new Map(configurations.ids.map((id, c) => [id, c]));
  const rowsAbout = [];
  for (const table of document.querySelectorAll("figure table")) {
    const column = [...table.tHead.rows[0].cells].findIndex((head) => head.textContent === "configuration");
    for (const row of column < 0 ? [] : table.tBodies[0].rows) {
      const c = numberOf.get(row.cells[column].textContent);
      if (c === undefined) continue;
      row.dataset.configuration = c;
      row.addEventListener("click", () => pin(c));
      rowsAbout.push(row);
    }
  }

  // The table of evaluations --------------------------------------------------------------------------------------
  const SHOWN_ROWS = 50;
  const table = document.querySelector("#evaluations table");
  const columns = [
    { head: "configuration", of: (r) => configurations.ids[evaluations.configuration[r]] },
    { head: "budget", of: (r) => budgets[evaluations.budget[r]].value, text: (v, r) => budgets[evaluations.budget[r]].label },
    { head: metric.label, of: (r) => evaluations.loss[r], text: error },
    { head: "test error", of: (r) => evaluations.test[r], text: error },
    { head: "state", of: (r) => data.states[evaluations.state[r]] },
    { head: "proposed by", of: (r) => (configurations.model[evaluations.configuration[r]] ? "model" : "random") },
    ...data.names.map(({ name, label }) => ({ head: label, of: (r) => configurations.values[name][evaluations.configuration[r]] })),
  ];
  let sorted = { column: 2, ascending: true };
  const fillTable = () => {
    const { of } = columns[sorted.column];
    const sign = sorted.ascending ? 1 : -1;
    const rows = [];
    keepEvaluation.forEach((isKept, r) => { if (isKept) rows.push(r); });
    rows.sort((a, b) => {
      const x = of(a), y = of(b);
      if (x === null || y === null) return (x === null) - (y === null);  // what is missing comes last, either way
      return sign * (typeof x === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true }));
    });
    const body = table.tBodies[0];
    body.replaceChildren(...rows.slice(0, SHOWN_ROWS).map((r) => {
      const line = document.createElement("tr");
      line.dataset.configuration = evaluations.configuration[r];
      line.classList.toggle("pinned", evaluations.configuration[r] === pinned);
      for (const { of: value, text } of columns) {
        line.append(Object.assign(document.createElement("td"), { textContent: text ? text(value(r), r) : short(value(r)) }));
      }
      line.addEventListener("click", () => pin(evaluations.configuration[r]));
      return line;
    }));
    document.querySelector("#evaluations .count").textContent =
      `${Math.min(SHOWN_ROWS, rows.length)} of ${rows.length} evaluations that match the filter. A click pins the configuration in every figure that shows single ones.`;
  };
  table.tHead.rows[0].replaceChildren(...columns.map(({ head }) => Object.assign(document.createElement("th"), { textContent: head })));
  makeSortable(table, (column, ascending) => { sorted = { column, ascending }; fillTable(); });
  document.getElementById("evaluations").hidden = false;

  // Any two metrics against each other ---------------------------------------------------------------------------
  const option = (select, text, value) => select.add(new Option(text, value));
  const drawChoice = (figure, chosen) => {
    const { up, across, budget } = Object.fromEntries(
      [...chosen.elements].map((select) => [select.name, Number(select.value)]));
    const [x, y] = [data.metrics[across], data.metrics[up]];
    const rows = [];
    evaluations.budget.forEach((level, r) => {
      if (level === budget && Number.isFinite(x.numbers[r]) && Number.isFinite(y.numbers[r])) rows.push(r);
    });
    const { places, isOn } = scatter.draw(figure.image, rows.map((r) => x.numbers[r]), rows.map((r) => y.numbers[r]), x, y);
    figure.sets = [{
      of: "evaluation", points: 1, rows: Uint32Array.from(rows),
      x: Uint16Array.from(places, ([px]) => Math.round(px * SCALE)),
      y: Uint16Array.from(places, ([, py]) => Math.round(py * SCALE)),
    }];
    figure.tell = (r) => [x, y].map((each) => `${each.name}: ${withUnit(short(each.numbers[r]), each.unit)}`);
    const better = `${y.less ? "lower" : "upper"} ${x.less ? "left" : "right"}`;
    const caption = `${rows.length} configurations on ${budgets[budget].label}; the best lie at the ${better}. Blue: the `
      + `front of the two, ${isOn.filter(Boolean).length} configurations; grey: another one dominates them.`;
    figure.plot.parentElement.nextElementSibling.textContent = caption;
    figure.image.setAttribute("aria-label", `${y.label} against ${x.label}. ${caption}`);
    draw(figure);
  };
  const offerChoice = (choice) => {
    const chosen = choice.querySelector("form");
    for (const each of data.metrics) {
      each.numbers = Array.from(new Float32Array(bytes(each.values)), (value) => each.factor * value);
      each.name = each.label.replace(/ \([^()]*\)$/, "");
    }
    data.metrics.forEach(({ label }, at) => { for (const name of ["up", "across"]) option(chosen.elements[name], label, at); });
    const levels = budgets.map((_, level) => level)
      .filter((level) => evaluations.budget.some((b, r) => b === level && evaluations.loss[r] !== null));
    for (const level of levels.reverse()) option(chosen.elements.budget, budgets[level].label, level);
    chosen.elements.across.value = data.metrics.length - 1;
    choice.hidden = false;
    const figure = addFigure(choice.querySelector(".plot"), []);
    chosen.addEventListener("change", () => drawChoice(figure, chosen));
    chosen.addEventListener("submit", (event) => event.preventDefault());
    drawChoice(figure, chosen);
    answerPointer(figure);
  };
  const choice = document.getElementById("choice");
  if (choice && data.metrics.length > 1 && evaluations.loss.some((loss) => loss !== null)) offerChoice(choice);

  form.addEventListener("input", applyFilter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(applyFilter));
  applyFilter();
})();
