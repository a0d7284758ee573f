/** The element of index.html with that id. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no element "${id}"`);
  return element as T;
}

type Child = Node | string | undefined | false;

/** An element with properties (class, data-*, aria-* as attributes) and children. */
export function h<K extends keyof HTMLElementTagNameMap>(
  name: K,
  attributes: Readonly<Record<string, string | number | boolean | undefined>> = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    element.setAttribute(key, value === true ? "" : String(value));
  }
  for (const child of children) if (child !== undefined && child !== false) element.append(child);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(
  name: string,
  attributes: Readonly<Record<string, string | number>>,
  ...children: readonly (Node | string)[]
): SVGElement {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...children);
  return element;
}

export const number = (value: number): string => value.toLocaleString("en");

/** 1,234 or 12.3k or 5.16M. */
export function short(value: number): string {
  if (value < 10_000) return number(Math.round(value));
  const [unit, suffix] = value >= 1e9 ? [1e9, "G"] : value >= 1e6 ? [1e6, "M"] : [1e3, "k"];
  return `${(value / unit).toPrecision(3)}${suffix}`;
}

export function range(low: number, high: number): string {
  return short(low) === short(high) ? short(low) : `${short(low)}–${short(high)}`;
}

/** A number as a person types it: decimal, 0x or ...h. */
export function parseAddress(text: string): number | undefined {
  const trimmed = text.trim().replaceAll("_", "");
  const hex = /^(?:0x)?([0-9a-f]+)$/i.exec(trimmed)?.[1];
  const value = hex === undefined ? Number.NaN : Number.parseInt(hex, 16);
  return Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}
