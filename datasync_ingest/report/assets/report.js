// Draws each chart of the page from the cells of the table below it: the table is the only place that has the numbers.
"use strict";
(() => {
  const PALETTES = {
    runs: {},
    causes: { "fetching": "blue", "rate limit": "orange", "server trouble": "red", "database": "purple",
      "else": "gray", "stopped": "pale" },
    answers: { "page": "blue", "page from the cache": "teal", "probe": "green", "too many requests (429)": "orange",
      "no whole answer": "red" },
    endings: { "asked again and answered": "blue", "asked for in smaller pages and answered": "teal",
      "cursor renewed": "green", "fetched later": "purple", "the walk went on elsewhere": "brown",
      "asked again at present": "gray", "not answered in this run": "red" },
    rejects: {},
  };
  const COLOURS = ["blue", "orange", "green", "purple", "red", "teal", "pink", "brown", "gray"];
  const SYMBOLS = ["circle", "triangle", "square", "cross", "diamond", "star", "wye", "times", "plus"];
  const NARROW = 560; // pixels: a phone

  // --- from table to rows ---

  function rowsOf(figure) {
    return [...figure.querySelectorAll("tbody tr")].map((row) => [...row.cells].map(valueOf));
  }

  function valueOf(cell) {
    return cell.dataset.v !== undefined ? Number(cell.dataset.v) : cell.textContent || null;
  }

  function specOf(box) {
    const figure = box.closest("figure");
    const heads = [...figure.querySelectorAll("thead th")].map((head) => head.textContent);
    const place = (name) => (box.dataset[name] === undefined ? null : Number(box.dataset[name]));
    const rows = rowsOf(figure);
    const [x, y, colour, facet] = ["x", "y", "colour", "facet"].map(place);
    const values = (column) => [...new Set(rows.map((row) => row[column]))];
    return {
      rows, x, y, colour, facet, heads, values,
      kind: box.dataset.kind, palette: box.dataset.palette, log: box.dataset.log !== undefined,
      line: place("line"), lineLabel: box.dataset.lineLabel, label: box.dataset.label,
      facets: facet === null ? [] : values(facet),
      colours: colour === null ? null : coloursOf(values(colour), PALETTES[box.dataset.palette]),
    };
  }

  // Known meanings have their colour, in the palette's order; others get those that are left.
  function coloursOf(values, known) {
    const order = Object.keys(known);
    const domain = [...order.filter((one) => values.includes(one)), ...values.filter((one) => !order.includes(one))];
    const free = COLOURS.filter((one) => !domain.some((value) => known[value] === one));
    const colour = (value, place) => known[value] || free[place % free.length] || COLOURS[place % COLOURS.length];
    let unknown = 0;
    return { domain, range: domain.map((one) => `var(--${known[one] || colour(one, unknown++)})`) };
  }

  // --- the kinds of charts ---

  const column = (place) => (place === null ? undefined : (row) => row[place]);
  // The table has the whole of a label that is too long.
  const cut = (text, length = 34) => (String(text).length > length ? `${String(text).slice(0, length - 1)}…` : String(text));
  const LOG_TICKS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000];
  const LEAST = LOG_TICKS[0];
  const margins = (spec, width) => (width < NARROW ? 48 : 64);

  function tipOf(spec) {
    return { title: (row) => spec.heads.map((head, place) =>
      (row[place] === null ? null : `${head}: ${shown(row[place])}`)).filter(Boolean).join("\n") };
  }

  function shown(value) {
    if (typeof value !== "number") return cut(value, 80);
    return value.toLocaleString("en", { maximumFractionDigits: Math.abs(value) >= 10 ? 1 : 3 });
  }

  function common(spec, width) {
    return {
      width, marginLeft: margins(spec, width), marginRight: 16, marginBottom: 40, ariaLabel: spec.label,
      style: { fontSize: "12px", color: "inherit", background: "transparent", overflow: "visible" },
      x: { label: spec.heads[spec.x], labelArrow: "none", labelAnchor: "right", ticks: Math.max(3, Math.round(width / 90)) },
      y: { label: spec.heads[spec.y], labelArrow: "none", grid: true, ticks: 5,
        tickFormat: width < NARROW ? "~s" : undefined },
      color: spec.colours === null ? undefined : { type: "ordinal", ...spec.colours },
    };
  }

  // Facets lie above each other, each with its name inside of it.
  function faceted(spec, height) {
    if (spec.facets.length < 2) return { height, channel: {}, options: {}, marks: [] };
    return {
      height: Math.max(height * 0.6, 130) * spec.facets.length,
      channel: { fy: column(spec.facet) },
      options: { fy: { label: null, axis: null, domain: spec.facets, padding: 0.16 } },
      marks: [Plot.text(spec.facets, { fy: (name) => name, text: (name) => cut(name), frameAnchor: "top-right", dy: -12, fontWeight: 600 })],
    };
  }

  function line(spec, width) {
    const marks = [
      Plot.ruleY([0], { stroke: "var(--rule)" }),
      Plot.line(spec.rows, { x: column(spec.x), y: column(spec.y), stroke: column(spec.colour), strokeWidth: 2,
        curve: spec.kind === "steps" ? "step-after" : "linear" }),
      Plot.tip(spec.rows, Plot.pointer({ x: column(spec.x), y: column(spec.y), ...tipOf(spec) })),
    ];
    if (spec.line !== null) {
      marks.push(Plot.ruleY([spec.line], { stroke: "var(--faint)", strokeDasharray: "4 3" }));
      marks.push(Plot.text([spec.line], { y: (value) => value, text: () => `${shown(spec.line)} ${spec.lineLabel}`,
        frameAnchor: "left", textAnchor: "start", dx: 4, dy: -8, fill: "var(--faint)" }));
    }
    return Plot.plot({ ...common(spec, width), height: 280, marginTop: 24, marks });
  }

  function dots(spec, width) {
    const parts = faceted(spec, 300);
    const base = common(spec, width);
    const symbols = { domain: spec.colours.domain, range: spec.colours.domain.map((_, place) => SYMBOLS[place % SYMBOLS.length]) };
    return Plot.plot({
      ...base, ...parts.options, height: parts.height, marginTop: 28, x: { ...base.x, zero: true },
      y: spec.log ? { ...base.y, type: "log", ...logDomain(spec), tickFormat: String } : base.y,
      symbol: symbols,
      marks: [
        spec.log ? null : Plot.ruleY([0], { stroke: "var(--rule)" }),
        Plot.dot(spec.rows, { x: column(spec.x), y: (row) => (spec.log ? Math.max(row[spec.y], LEAST) : row[spec.y]),
          stroke: column(spec.colour), symbol: column(spec.colour), r: 3.5, strokeWidth: 1.5, ...parts.channel }),
        Plot.tip(spec.rows, Plot.pointer({ x: column(spec.x), y: column(spec.y), ...parts.channel, ...tipOf(spec) })),
        ...parts.marks,
      ],
    });
  }

  function logDomain(spec) {
    const values = spec.rows.map((row) => Math.max(row[spec.y], LEAST));
    const domain = [Math.min(...values) / 1.4, Math.max(...values) * 1.4];
    return { domain, ticks: LOG_TICKS.filter((tick) => tick >= domain[0] && tick <= domain[1]) };
  }

  // Horizontal bars, their names above them, so that long ones have room on a phone too.
  function bars(spec, width) {
    const names = spec.values(spec.y);
    const sums = new Map(names.map((name) => [name, 0]));
    spec.rows.forEach((row) => sums.set(row[spec.y], sums.get(row[spec.y]) + row[spec.x]));
    const fill = spec.colour === null ? "var(--blue)" : column(spec.colour);
    const base = common(spec, width);
    return Plot.plot({
      ...base, marginLeft: 8, marginRight: 24, marginTop: 24, height: names.length * 44 + 68,
      x: { ...base.x, grid: true, ticks: Math.min(Math.max(2, Math.round(width / 120)), mostWhole(sums)) },
      y: { domain: names, axis: null, paddingInner: 0.5, paddingOuter: 0.3 },
      marks: [
        Plot.barX(spec.rows, { x: column(spec.x), y: column(spec.y), fill, order: spec.colours?.domain,
          z: column(spec.colour), inset: 0 }),
        Plot.tip(spec.rows, Plot.pointer(Plot.stackX({ x: column(spec.x), y: column(spec.y), z: column(spec.colour),
          order: spec.colours?.domain, ...tipOf(spec) }))),
        Plot.text(names, { x: 0, y: (name) => name, text: (name) => `${cut(name, Math.floor(width / 9))} · ${shown(sums.get(name))}`,
          frameAnchor: "left", textAnchor: "start", dy: -18 }),
        Plot.ruleX([0], { stroke: "var(--rule)" }),
      ],
    });
  }

  // Counts have no ticks between whole numbers.
  function mostWhole(sums) {
    const values = [...sums.values()];
    return values.every(Number.isInteger) ? Math.max(1, ...values) : Infinity;
  }

  function columns(spec, width) {
    const parts = faceted(spec, 260);
    const base = common(spec, width);
    const length = spec.x + 1; // the column behind the start of a stretch is how long it is
    const place = { x1: column(spec.x), x2: (row) => row[spec.x] + row[length], y: column(spec.y), z: column(spec.colour),
      order: spec.colours.domain, ...parts.channel };
    return Plot.plot({
      ...base, ...parts.options, height: parts.height, marginTop: 28, y: { ...base.y, domain: [0, 100] },
      x: { ...base.x, label: spec.heads[spec.x] },
      marks: [
        Plot.rectY(spec.rows, { ...place, fill: column(spec.colour), insetRight: 0.5, tip: false }),
        Plot.tip(spec.rows, Plot.pointerX(Plot.stackY({ x: (row) => row[spec.x] + row[length] / 2, y: column(spec.y),
          z: column(spec.colour), order: spec.colours.domain, ...parts.channel, ...tipOf(spec) }))),
        ...parts.marks,
      ],
    });
  }

  function days(spec, width) {
    const day = (row) => new Date(`${row[spec.x]}T00:00:00Z`);
    const base = common(spec, width);
    return Plot.plot({
      ...base, height: 240, marginTop: 24, x: { ...base.x, type: "utc", label: null },
      marks: [
        Plot.rectY(spec.rows, { x: day, y: column(spec.y), interval: "day", fill: "var(--blue)", insetLeft: 0.5, insetRight: 0.5 }),
        Plot.tip(spec.rows, Plot.pointerX({ x: day, y: column(spec.y), ...tipOf(spec) })),
        Plot.ruleY([0], { stroke: "var(--rule)" }),
      ],
    });
  }

  const KINDS = { line, steps: line, dots, bars, columns, days };

  // --- the page ---

  function legend(spec) {
    if (spec.colours === null || (spec.palette === "runs" && spec.colours.domain.length < 2)) return [];
    const list = document.createElement("ul");
    list.className = "legend";
    spec.colours.domain.forEach((name, place) => {
      const item = list.appendChild(document.createElement("li"));
      item.append(swatch(spec, place), cut(name, 60));
    });
    return [list];
  }

  function swatch(spec, place) {
    const mark = d3.create("svg").attr("viewBox", "-6 -6 12 12").attr("aria-hidden", "true");
    if (spec.kind === "dots") {
      const symbol = d3[`symbol${SYMBOLS[place % SYMBOLS.length].replace(/^./, (first) => first.toUpperCase())}`];
      mark.append("path").attr("d", d3.symbol(symbol, 36)()).attr("fill", "none").attr("stroke-width", 2)
        .attr("stroke", spec.colours.range[place]);
    } else {
      mark.append("rect").attr("x", -6).attr("y", -6).attr("width", 12).attr("height", 12)
        .attr("fill", spec.colours.range[place]);
    }
    return mark.node();
  }

  function draw(box, spec) {
    const width = Math.max(280, Math.floor(box.clientWidth));
    const drawn = KINDS[spec.kind](spec, width);
    drawn.setAttribute("role", "img");
    box.replaceChildren(...legend(spec), drawn);
    box.dataset.width = width;
  }

  function failed(error) {
    document.documentElement.dataset.error = String(error);
    console.error(error);
  }

  window.addEventListener("error", (event) => failed(event.message));
  const boxes = [...document.querySelectorAll(".chart")].map((box) => [box, specOf(box)]);
  const drawAll = () => boxes.forEach(([box, spec]) => {
    try {
      if (Number(box.dataset.width) !== Math.max(280, Math.floor(box.clientWidth))) draw(box, spec);
    } catch (error) {
      failed(error);
    }
  });
  drawAll();
  window.addEventListener("resize", () => requestAnimationFrame(drawAll));
  document.documentElement.dataset.drawn = document.querySelectorAll(".chart > svg").length;
})();
