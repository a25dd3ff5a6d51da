"use strict";
(() => {
  const data = JSON.parse(document.getElementById("charts").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const tone = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const escape = (text) => text.replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]);
  const looks = { read: ["--read", "circle"], write: ["--write", "diamond"], indeterminate: ["--bad", "x"] };
  const seen = data.seen === null ? [] : [data.seen];
  const shapes = () => [...data.bands.map((band) => ({
    type: "rect", xref: "x", yref: "paper", x0: band.x0, x1: band.x1, y0: 0, y1: 1, layer: "below",
    line: { width: 0 }, opacity: band.kind === "move" ? 0.16 : 0.18,
    fillcolor: tone(band.kind === "move" ? "--move" : "--cut"),
  })), ...seen.map((x) => ({
    type: "line", xref: "x", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, line: { width: 1.5, dash: "dash", color: tone("--bad") },
  }))];
  const deepest = Math.max(0, ...data.bands.map((band) => band.depth));
  const names = () => [...(data.bands.length > 24 ? [] : data.bands).map((band) => ({
    xref: "x", yref: "paper", x: band.x0, y: band.kind === "move" ? 1.0 : 1.08 + 0.08 * (deepest - band.depth), xanchor: "left", yanchor: "bottom",
    text: escape(band.name), showarrow: false, font: { size: 11, color: tone(band.kind === "move" ? "--move" : "--soft") },
  })), ...seen.map((x) => ({
    xref: "x", yref: "paper", x, y: 0.99, xanchor: "right", yanchor: "top",
    text: "anomaly seen", showarrow: false, font: { size: 11, color: tone("--bad") },
  }))];
  const layout = (title, more) => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: tone("--panel"), font: { color: tone("--ink"), size: 12 },
    margin: { l: 60, r: 12, t: 46 + 22 * deepest, b: 42 }, showlegend: false, shapes: shapes(), hovermode: "closest",
    xaxis: { title: { text: "seconds since the run began" }, gridcolor: tone("--rule"), zeroline: false, range: [-data.end * 0.01, data.end * 1.01] },
    yaxis: { title: { text: title }, gridcolor: tone("--rule"), zeroline: false, ...more },
  });
  const draw = () => {
    const config = { responsive: true, displaylogo: false, displayModeBar: false };
    const points = data.points.map((p) => ({
      type: "scattergl", mode: "markers", name: p.name, x: p.x, y: p.y,
      marker: { size: 4, opacity: 0.65, color: tone(looks[p.name][0]), symbol: looks[p.name][1] },
      hovertemplate: "%{y:.3f} ms at %{x:.4f} s<extra>" + p.name + "</extra>",
    }));
    const latency = { ...layout("latency, ms (log)", { type: "log", dtick: 1 }), annotations: names(), showlegend: true,
      legend: { orientation: "h", x: 1, xanchor: "right", y: -0.16, yanchor: "top", itemsizing: "constant" } };
    Plotly.react("chart-latency", points, latency, config);
    const rate = [{ type: "scatter", mode: "lines", x: data.rate.x, y: data.rate.y, line: { color: tone("--read"), width: 1.5, shape: "hv" },
      hovertemplate: "%{y:.0f} ops/s at %{x:.2f} s<extra></extra>" }];
    Plotly.react("chart-rate", rate, { ...layout("ops/s", { rangemode: "tozero" }), margin: { l: 60, r: 12, t: 8, b: 42 } }, config);
  };
  draw();
  dark.addEventListener("change", draw);
})();
