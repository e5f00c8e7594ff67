"use strict";

// Histogram of the scores; ROC and PRO curves.
Report.whenReady(() => {
  const LIMITS = ["0.3", "0.1", "0.05", "0.01"];
  const { curves, scores, threshold } = Report.data("plots");
  const element = (id) => document.getElementById(id);
  const shares = { tickformat: ".0%", hoverformat: ".2%" };

  // In the lower right corner, where curves seldom go; below the plot where that is narrow.
  function legendOf(id) {
    const inside = { x: 1, y: 0.02, xanchor: "right", yanchor: "bottom", bgcolor: "rgba(0,0,0,0)", font: { size: 12 } };
    const below = { orientation: "h", x: 0, xanchor: "left", y: -0.2, yanchor: "top", font: { size: 12 } };
    return element(id).clientWidth < 480 ? below : inside;
  }

  // The note that stands in a plot's place where there is nothing to draw.
  function undefinedPlot(id, text) {
    element(id).replaceChildren(Report.make("p", { class: "note" }, text));
    element(id).style.height = "auto";
  }

  // Plotly reads some tags in texts; names of defects are to be read as they are.
  function plain(text) {
    return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  }

  function vertical(x, dash = "dot") {
    return { type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: Report.colour("line-strong"), width: 1.5, dash } };
  }

  function label(x, text) {
    return { x, y: 1, yref: "paper", text, showarrow: false, xanchor: "left", yanchor: "bottom", font: { size: 12, color: Report.colour("muted") } };
  }

  // One row of bars for each kind, all on one scale; the good ones above.
  function scorePlot() {
    const kinds = Object.keys(scores.counts);
    const highest = Math.max(...Object.values(scores.counts).flat());
    const width = scores.edges[1] - scores.edges[0];
    const row = (i) => kinds.length - 1 - i;
    const traces = kinds.map((kind, i) => ({
      type: "bar",
      x: scores.edges.slice(1).map((edge) => edge - width / 2),
      y: scores.counts[kind].map((count) => (0.86 * count) / highest),
      base: row(i),
      customdata: scores.counts[kind],
      width: 0.94 * width,
      marker: { color: Report.colour(kind === "good" ? "line-strong" : "accent"), line: { width: 0 } },
      hovertemplate: `%{customdata} at %{x:.3g}<extra>${plain(kind)}</extra>`,
    }));
    const shown = threshold === null ? {} : { shapes: [vertical(threshold, "dash")], annotations: [label(threshold, "threshold")] };
    const layout = {
      barmode: "overlay",
      showlegend: false,
      margin: { l: 50, r: 12, t: 26, b: 44 },
      xaxis: { title: { text: "score" }, zeroline: false },
      yaxis: { tickvals: kinds.map((_, i) => row(i)), ticktext: kinds.map(plain), range: [-0.05, kinds.length + 0.05], zeroline: false, fixedrange: true },
      ...shown,
    };
    return { traces, layout };
  }

  function line(curve, i, name) {
    return {
      x: curve.x,
      y: curve.y,
      name,
      mode: "lines",
      line: { color: Report.series()[i], width: 2, dash: i ? "dash" : "solid", shape: "linear" },
      hovertemplate: "%{y:.1%} at %{x:.2%}<extra></extra>",
    };
  }

  function rocPlot(id, list, point) {
    const traces = list.map((curve, i) => line(curve, i, `${curve.name}: AUROC ${Report.figure(curve.area)}`));
    if (point) {
      traces.push({
        x: [point[0]],
        y: [point[1]],
        mode: "markers",
        name: `at the threshold: ${(100 * point[1]).toFixed(0)} % found, ${(100 * point[0]).toFixed(0)} % false alarms`,
        marker: { size: 11, color: Report.colour("surface"), line: { color: Report.colour("text"), width: 2.5 } },
        hovertemplate: "%{y:.1%} at %{x:.1%}<extra>threshold</extra>",
        cliponaxis: false,
      });
    }
    const layout = {
      showlegend: true,
      legend: legendOf(id),
      xaxis: { ...shares, range: [-0.005, 1], title: { text: "false-positive rate" } },
      yaxis: { ...shares, range: [0, 1.005], title: { text: "true-positive rate" } },
    };
    return { traces, layout };
  }

  let proTo = 0.3;

  // Whether the label of a limit keeps clear of that of the next larger one.
  function hasRoom(limit) {
    const next = LIMITS.map(Number).filter((other) => other > limit && other <= proTo).pop();
    return next === undefined || ((next - limit) / proTo) * element("plot-pro").clientWidth > 45;
  }

  function proPlot() {
    const areas = (area) => `AUPRO@30% ${Report.figure(area["0.3"])}, @1% ${Report.figure(area["0.01"])}`;
    const traces = curves.pro.map((curve, i) => line(curve, 1 - i, `${curve.name}: ${areas(curve.area)}`));
    const limits = LIMITS.map(Number).filter((limit) => limit <= proTo);
    const layout = {
      uirevision: proTo,
      legend: legendOf("plot-pro"),
      xaxis: { ...shares, tickformat: proTo < 0.1 ? ".1%" : ".0%", range: [0, proTo * 1.02], title: { text: "false-positive rate" } },
      yaxis: { ...shares, range: [0, 1.005], title: { text: "per-region overlap" } },
      shapes: limits.map((limit) => vertical(limit)),
      margin: { l: 50, r: 12, t: 26, b: 44 },
      annotations: limits.filter(hasRoom).map((limit) => ({ ...label(limit, `${100 * limit} %`), xanchor: "center" })),
    };
    return { traces, layout };
  }

  function startPro() {
    const draw = Report.plot(element("plot-pro"), proPlot);
    const buttons = [...element("pro-range").children];
    const choose = (to) => {
      proTo = to;
      buttons.forEach((button) => button.setAttribute("aria-pressed", String(Number(button.dataset.to) === to)));
      draw();
    };
    buttons.forEach((button) => button.addEventListener("click", () => choose(Number(button.dataset.to))));
    choose(proTo);
  }

  element("plot-scores").style.height = `${5 + 2.6 * Math.max(3, Object.keys(scores.counts).length)}rem`;
  Report.plot(element("plot-scores"), scorePlot);
  if (curves.image.length) {
    Report.plot(element("plot-image"), () => rocPlot("plot-image", curves.image, curves.point));
  } else {
    undefinedPlot("plot-image", "Undefined: it takes good and defective images.");
  }
  if (curves.pixel.length) {
    Report.plot(element("plot-pixel"), () => rocPlot("plot-pixel", curves.pixel, null));
    startPro();
  } else {
    undefinedPlot("plot-pixel", "Undefined: it takes normal and anomalous pixels.");
    undefinedPlot("plot-pro", "Undefined: it takes normal and anomalous pixels.");
    element("pro-range").hidden = true;
  }
});
