// Draws every chart of the page, one after the other, so that the page can be read meanwhile.
(async () => {
  const { slugs, domains } = JSON.parse(document.getElementById("losses").textContent);
  const losses = Object.entries(domains).flatMap(([domain, values]) =>
    values.map((bpb, place) => ({ slug: slugs[place], domain, bpb })));
  for (const source of document.querySelectorAll("script[data-plot]")) {
    const spec = JSON.parse(source.textContent);
    if (spec.datasets) spec.datasets.losses = losses;
    await vegaEmbed("#" + source.dataset.plot, spec, { renderer: "svg", actions: false });
    await new Promise((next) => setTimeout(next));
  }
  document.documentElement.dataset.drawn = "yes";
})();

// Paper cannot be clicked.
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
