// The plots of the comparison with their legends, and what starts the page.
(() => {
  const { colour, figure, make, plot } = Report;
  const { DATA, byId, entries, glyph, isShown, look, ofClass, own, pick, published, publishedFigure } = Comparison;
  const { publishedLabel, rowClasses, setShown, shown, small, state } = Comparison;

  // Plotly reads some markup in names; this shows them as they are.
  function plain(text) {
    return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  }

  function hover(...lines) {
    return lines.filter(Boolean).map(plain).join("<br>");
  }

  function seedText(deviation) {
    return deviation === null ? "" : `± ${figure(deviation)} over seeds`;
  }

  function errors(deviations) {
    const visible = deviations.some((deviation) => deviation !== null);
    return { type: "data", array: deviations.map((deviation) => deviation ?? 0), visible, thickness: 1.5, width: 3 };
  }

  // What the layouts share: a finger scrolls the page, it does not zoom.
  function calm(layout) {
    const touch = window.matchMedia("(pointer: coarse)").matches;
    return { showlegend: false, hovermode: "closest", dragmode: touch ? false : "zoom", ...layout };
  }

  function legend(id, chosen, note = () => "") {
    const item = (entry) => make("li", {}, glyph(entry), make("span", {}, entry.label, small(note(entry))));
    byId(id).replaceChildren(...chosen.map(item));
  }

  // Class by class

  function classPlot() {
    const names = rowClasses().reverse(); // the first class on top
    const chosen = shown();
    const step = 0.64 / Math.max(chosen.length - 1, 3);
    const shift = (place) => ((chosen.length - 1) / 2 - place) * step;
    const traces = chosen.map((entry, place) => classTrace(entry, names, shift(place)));
    const yaxis = {
      tickvals: names.map((_, i) => i),
      ticktext: names.map(plain),
      range: [-0.5, names.length - 0.5],
      zeroline: false,
      fixedrange: true,
    };
    const xaxis = { title: { text: DATA.metrics[state.metric] }, zeroline: false };
    const height = byId("class-plot").clientHeight; // it changes with the number of classes and runs
    return { traces: [publishedTrace(names), ...traces], layout: calm({ xaxis, yaxis, height }) };
  }

  function classTrace(entry, names, shift) {
    const { series, symbol } = look(entry);
    const found = names.map((name) => ofClass(entry, name, state.metric));
    return {
      type: "scatter",
      mode: "markers",
      x: found.map(({ mean }) => mean),
      y: names.map((_, i) => i + shift),
      text: found.map(({ deviation }, i) => hover(names[i], entry.label, seedText(deviation))),
      error_x: errors(found.map(({ deviation }) => deviation)),
      marker: { color: colour(series), symbol, size: 9 },
      hovertemplate: "%{text}<br>%{x:.3f}<extra></extra>",
    };
  }

  function publishedTrace(names) {
    const points = published().flatMap((method) =>
      names.map((name, y) => ({ x: publishedFigure(method, name), y, text: hover(name, publishedLabel(method)) })),
    );
    const known = points.filter(({ x }) => x !== null);
    return {
      type: "scatter",
      mode: "markers",
      x: known.map(({ x }) => x),
      y: known.map(({ y }) => y),
      text: known.map(({ text }) => text),
      marker: { symbol: "line-ns-open", size: 14, color: colour("line-strong"), line: { width: 1.5 } },
      hovertemplate: "%{text} (published)<br>%{x:.3f}<extra></extra>",
    };
  }

  function classLegend() {
    legend("class-legend", shown());
    if (published().length) {
      const sign = make("span", { class: "glyph", "aria-hidden": "true" }, "|");
      byId("class-legend").append(make("li", {}, sign, "published, a line for each method"));
    }
    const rem = rowClasses().length * (1.2 + Math.min(0.32 * shown().length, 3)) + 5;
    byId("class-plot").style.setProperty("height", `${Math.max(rem, 12)}rem`);
  }

  // ROC of one class

  function curvesOf(entry) {
    return entry.branch ? [] : entry.members.map((run) => own(DATA.curves[run], state.className)).filter(Boolean);
  }

  function rocPlot() {
    const traces = shown().flatMap((entry) => curvesOf(entry).map((curve) => rocTrace(entry, curve)));
    const chance = { type: "scatter", mode: "lines", x: [0, 1], y: [0, 1], hoverinfo: "skip" };
    chance.line = { color: colour("line-strong"), dash: "dot", width: 1 };
    const xaxis = { title: { text: "false-positive rate" }, range: [-0.02, 1.02], zeroline: false };
    const yaxis = { title: { text: "true-positive rate" }, range: [-0.02, 1.02], zeroline: false };
    return { traces: [chance, ...traces], layout: calm({ xaxis, yaxis }) };
  }

  function rocTrace(entry, [x, y]) {
    return {
      type: "scatter",
      mode: "lines",
      x,
      y,
      line: { color: colour(look(entry).series), width: entry.members.length > 1 ? 1.25 : 2 },
      text: x.map(() => hover(entry.label)),
      hovertemplate: "%{text}<br>%{y:.3f} at %{x:.3f}<extra></extra>",
    };
  }

  function rocLegend() {
    const drawn = shown().filter((entry) => curvesOf(entry).length);
    legend("roc-legend", drawn, (entry) => `, I-AUROC ${figure(ofClass(entry, state.className, 0).mean)}`);
    const without = shown().filter((entry) => own(entry.classes, state.className) && !drawn.includes(entry));
    const names = without.map((entry) => entry.label).join("; ");
    const seeds = drawn.some((entry) => entry.members.length > 1) ? "A line for each seed. " : "";
    const rest = names ? `No curve, since their files hold no scores of images: ${names}.` : "";
    byId("roc-note").textContent = seeds + rest;
  }

  // Speed

  const timed = () => shown().filter((entry) => entry.seconds !== null);

  function speedPlot() {
    const traces = timed().map((entry) => {
      const { series, symbol } = look(entry);
      const { mean, deviation } = pick(entry.means, state.speedMetric);
      return {
        type: "scatter",
        mode: "markers",
        x: [entry.seconds],
        y: [mean],
        error_y: errors([deviation]),
        text: [hover(entry.label, entry.device, seedText(deviation))],
        marker: { color: colour(series), symbol, size: 12 },
        hovertemplate: "%{text}<br>%{y:.3f} at %{x:.3g} s<extra></extra>",
      };
    });
    const yaxis = { title: { text: `mean ${DATA.metrics[state.speedMetric]}` }, zeroline: false };
    return { traces, layout: calm({ xaxis: secondsAxis(), yaxis }) };
  }

  // A logarithmic axis with ticks at 1, 2 and 5 times powers of ten.
  function secondsAxis() {
    const seconds = timed().map((entry) => entry.seconds).filter((value) => value > 0);
    const ends = seconds.length ? [Math.min(...seconds) / 1.8, Math.max(...seconds) * 1.8] : [0.1, 1];
    const powers = [-6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5];
    const ticks = powers.flatMap((power) => [1, 2, 5].map((digit) => Number(`${digit}e${power}`)));
    return {
      type: "log",
      title: { text: "seconds an image" },
      range: ends.map(Math.log10),
      tickvals: ticks,
      ticktext: ticks.map((value) => String(value)),
      zeroline: false,
    };
  }

  function speedLegend() {
    const device = (entry) => (entry.device ? ` on ${entry.device}` : "");
    legend("speed-legend", timed(), (entry) => `, ${figure(entry.seconds)} s${device(entry)}`);
  }

  // Choice

  function runChoice(entry) {
    const box = make("input", { type: "checkbox" });
    box.checked = isShown(entry);
    box.addEventListener("change", () => {
      setShown(entry, box.checked);
      draw();
    });
    const seeds = entry.members.length > 1 ? small(` ${entry.members.length} seeds`) : "";
    return make("label", {}, box, glyph(entry), make("span", {}, entry.label, seeds));
  }

  function choices() {
    const [title] = byId("runs").children;
    byId("runs").replaceChildren(title, ...entries().map(runChoice));
  }

  function listen(id, read) {
    byId(id)?.addEventListener("change", (event) => {
      read(event.target);
      draw();
    });
  }

  function setAll(on) {
    DATA.single.forEach((entry) => setShown(entry, on));
    choices();
    draw();
  }

  function draw() {
    ComparisonTables.draw();
    [classLegend, rocLegend, speedLegend, ...plots].forEach((part) => part());
  }

  const plots = [];

  function start() {
    listen("metric", (select) => (state.metric = Number(select.value)));
    listen("published", (box) => (state.published = box.checked));
    listen("class", (select) => (state.className = DATA.classes[select.value]));
    listen("defect-metric", (select) => (state.defectMetric = Number(select.value)));
    listen("speed-metric", (select) => (state.speedMetric = Number(select.value)));
    listen("seeds", (box) => {
      state.seeds = box.checked;
      choices();
    });
    byId("all").addEventListener("click", () => setAll(true));
    byId("none").addEventListener("click", () => setAll(false));
    for (const button of document.querySelectorAll("#means .sort")) {
      button.addEventListener("click", () => ComparisonTables.sortBy(button));
    }
    byId("speed-section").hidden = DATA.single.every((entry) => entry.seconds === null);
    choices();
    draw();
    plots.push(plot(byId("class-plot"), classPlot), plot(byId("roc"), rocPlot), plot(byId("speed"), speedPlot));
  }

  start();
})();
