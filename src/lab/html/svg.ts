/** Text that goes into markup. */
export function escapeText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

type Attributes = Readonly<Record<string, string | number>>;

export function element(name: string, attributes: Attributes, content = ""): string {
  const text = Object.entries(attributes)
    .map(
      ([key, value]) => ` ${key}="${escapeText(typeof value === "number" ? String(Number(value.toFixed(2))) : value)}"`,
    )
    .join("");
  return `<${name}${text}>${content}</${name}>`;
}

export const rect = (x: number, y: number, width: number, height: number, fill: string, title = ""): string =>
  element("rect", { x, y, width: Math.max(0, width), height, fill }, title && element("title", {}, escapeText(title)));

export type Anchor = "start" | "middle" | "end";

export const label = (x: number, y: number, text: string, anchor: Anchor = "start", more: Attributes = {}): string =>
  element("text", { x, y, "text-anchor": anchor, ...more }, escapeText(text));

export const line = (x1: number, y1: number, x2: number, y2: number, stroke: string, more: Attributes = {}): string =>
  element("line", { x1, y1, x2, y2, style: `stroke: ${stroke}`, ...more });

/** Lines behind a picture, and marks on it, in the page's colours. */
export const GRID = "var(--grid)";
export const INK = "var(--ink)";

/** A picture that scales to the width of its column and says what it shows. */
export function svg(width: number, height: number, what: string, content: string): string {
  const attributes = { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": what };
  return element(
    "div",
    { class: "plot" },
    element("svg", { xmlns: "http://www.w3.org/2000/svg", ...attributes }, content),
  );
}

/** 1, 2 or 5 times a power of ten, about `parts` of them in `span`. */
export function tick(span: number, parts: number): number {
  const raw = span / parts;
  const power = 10 ** Math.floor(Math.log10(raw));
  return power * (raw / power >= 5 ? 5 : raw / power >= 2 ? 2 : 1);
}

export const short = (value: number): string => {
  const [unit, suffix] = value >= 1e6 ? [1e6, "M"] : value >= 1e3 ? [1e3, "k"] : [1, ""];
  return `${Number((value / unit).toPrecision(3))}${suffix}`;
};
