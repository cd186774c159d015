/** Values an answer is made of. `undefined` members are left out, arrays become `<item>` lists as EC2 writes them. */
export type XmlValue =
  | string
  | number
  | boolean
  | undefined
  | readonly XmlValue[]
  | { readonly [name: string]: XmlValue };

/** One element as text. The declaration and the namespace stand before an answer's outermost one. */
export function element(name: string, value: XmlValue, namespace?: string): string {
  const attribute = namespace === undefined ? "" : ` xmlns="${namespace}"`;
  return `<?xml version="1.0" encoding="UTF-8"?>\n<${name}${attribute}>${content(value)}</${name}>`;
}

function content(value: XmlValue): string {
  if (value === undefined) return "";
  if (Array.isArray(value)) return value.map((item) => `<item>${content(item)}</item>`).join("");
  if (typeof value === "object") {
    return Object.entries(value)
      .filter(([, member]) => member !== undefined)
      .map(([name, member]) => `<${name}>${content(member)}</${name}>`)
      .join("");
  }
  return escapeText(String(value));
}

function escapeText(text: string): string {
  return text.replace(/[&<>"\r]/g, (char) => `&#${char.charCodeAt(0)};`);
}
