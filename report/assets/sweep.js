"use strict";

// Curves of a sweep: one line for each setting, points along an option, bars of the deviation over seeds.
(() => {
  const DATA = Report.data("sweep");
  const SYMBOLS = ["circle", "square", "diamond", "cross", "triangle-up", "x", "star", "pentagon"];
  const element = (id) => document.getElementById(id);
  if (!DATA.lines.length) {
    return;
  }

  // Plotly reads some markup in names; this shows them as they are.
  function plain(text) {
    return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  }

  const look = (i) => ({ colour: `series-${(i % 8) + 1}`, dash: ["solid", "dash", "dot"][Math.floor(i / 8) % 3] });

  function trace({ label, points }, i, metric, against) {
    const known = points.filter((point) => point.mean[metric] !== null && point[against] !== null);
    const ordered = known.toSorted((a, b) => a[against] - b[against]);
    const { colour, dash } = look(i);
    const spread = (point) => (point.deviation[metric] === null ? "" : ` ± ${Report.figure(point.deviation[metric])}`);
    return {
      type: "scatter",
      mode: "lines+markers",
      x: ordered.map((point) => point[against]),
      y: ordered.map((point) => point.mean[metric]),
      text: ordered.map((point) => `${plain(label)}<br>${plain(DATA.option)} ${plain(point.text)}${spread(point)}`),
      error_y: { type: "data", array: ordered.map((point) => point.deviation[metric] ?? 0), thickness: 1.5, width: 4 },
      line: { color: Report.colour(colour), dash, width: 2 },
      marker: { color: Report.colour(colour), symbol: SYMBOLS[i % SYMBOLS.length], size: 9 },
      hovertemplate: "%{text}<br>%{y:.3f}<extra></extra>",
    };
  }

  // Ticks where points are, on a logarithmic axis; of seconds at 1, 2 and 5 times powers of ten.
  function axis(against) {
    const points = DATA.lines.flatMap((line) => line.points).filter((point) => point[against] > 0);
    const values = points.map((point) => point[against]);
    const range = [Math.min(...values) / 1.3, Math.max(...values) * 1.3].map(Math.log10);
    if (against === "seconds") {
      const powers = [-5, -4, -3, -2, -1, 0, 1, 2, 3, 4];
      const ticks = powers.flatMap((power) => [1, 2, 5].map((digit) => Number(`${digit}e${power}`)));
      return { title: { text: "seconds an image" }, type: "log", tickvals: ticks, ticktext: ticks.map(String), range };
    }
    const names = new Map(points.map((point) => [point.x, plain(point.text)]));
    return { title: { text: plain(DATA.option) }, type: "log", tickvals: [...names.keys()], ticktext: [...names.values()], range };
  }

  function build() {
    const metric = Number(element("metric").value);
    const against = element("against").value;
    const traces = DATA.lines.map((line, i) => trace(line, i, metric, against));
    const yaxis = { title: { text: DATA.metrics[metric] }, zeroline: false };
    return { traces, layout: { showlegend: false, hovermode: "closest", xaxis: axis(against), yaxis, uirevision: `${metric} ${against}` } };
  }

  function drawLegend() {
    const items = DATA.lines.map(({ label }, i) => {
      const sign = Report.make("span", { class: "glyph", "aria-hidden": "true" });
      const { colour, dash } = look(i);
      sign.style.borderTopColor = `var(--${colour})`;
      sign.style.borderTopStyle = { solid: "solid", dash: "dashed", dot: "dotted" }[dash];
      return Report.make("li", {}, sign, label || "mean over classes");
    });
    element("legend").replaceChildren(...items);
  }

  drawLegend();
  const draw = Report.plot(element("curves"), build);
  ["metric", "against"].forEach((id) => element(id).addEventListener("change", draw));
})();
