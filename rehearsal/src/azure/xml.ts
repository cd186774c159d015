/** The little XML the blob service speaks: written by hand, because the order of elements is part of the format. */

export type XmlChild = string | undefined;

/** An element whose content is already XML; undefined children are left out. */
export function element(name: string, ...children: XmlChild[]): string {
  const content = children.filter((child) => child !== undefined).join("");
  return content === "" ? `<${name} />` : `<${name}>${content}</${name}>`;
}

/** An element with text; undefined text gives no element. */
export function textElement(name: string, text: string | number | boolean | undefined): XmlChild {
  return text === undefined ? undefined : element(name, escapeXml(String(text)));
}

export function xmlDocument(root: string): string {
  return `<?xml version="1.0" encoding="utf-8"?>${root}`;
}

export function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

export function unescapeXml(text: string): string {
  return text
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&quot;", '"')
    .replaceAll("&apos;", "'")
    .replaceAll("&amp;", "&");
}
