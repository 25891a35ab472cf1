// Run in the page: the contrast of every text to what is behind it, and of the colours of drawings to their card.

const parse = (colour) => colour.match(/[\d.]+/g).map(Number);
const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ratio = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
const groundOf = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const ground = parse(getComputedStyle(e).backgroundColor);
    if (ground.length < 4 || ground[3] > 0) return ground;
  }
  return [255, 255, 255];
};
const found = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  const box = element.getBoundingClientRect();
  if ((!own && element.tagName !== "INPUT") || box.width < 2 || getComputedStyle(element).visibility === "hidden") continue;
  found.push([element.id || element.className || element.tagName, ratio(parse(getComputedStyle(element).color), groundOf(element))]);
}
const style = getComputedStyle(document.documentElement);
const probe = document.createElement("i");
document.body.append(probe);
const colour = (name) => { probe.style.color = style.getPropertyValue(name); return parse(getComputedStyle(probe).color); };
const card = colour("--card");
const drawn = ["--valence", "--arousal", "--point", "--trail", "--quiet"].map((name) => [name, ratio(colour(name), card)]);
const written = ["--valence-text", "--arousal-text", "--quiet", "--ink"].map((name) => [name, ratio(colour(name), card)]);
probe.remove();
return { texts: [...found, ...written], drawn };
