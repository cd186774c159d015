/**
 * A program's output as lines a log can hold: bounded in length and in number, no control characters, no secrets.
 *
 * Lines are masked whole, so that no border between two chunks can split a secret.
 */
import { StringDecoder } from "node:string_decoder";
import type { Mask } from "./mask.ts";

export interface LineLimits {
  /** Characters of one line; what is beyond is replaced by ` [cut]`. */
  readonly perLine: number;
  /** Characters of all lines; what is beyond is left out but for its end, and a line says so. */
  readonly total: number;
  /** Lines at the end that are kept though the total is reached: they say why it failed. */
  readonly tail: number;
}

export const USUAL_LINES: LineLimits = { perLine: 8 * 1024, total: 8 * 1024 * 1024, tail: 50 };

export interface Lines {
  push(chunk: Uint8Array): void;
  /** What is left, and the tail. To be called once. */
  end(): void;
}

export function splitLines(limits: LineLimits, mask: Mask, emit: (line: string) => void): Lines {
  const decoder = new StringDecoder("utf8");
  // Enough that a secret beginning before the cut is whole.
  const most = limits.perLine + mask.longest;
  let line = "";
  let isLonger = false;
  // A carriage return alone: the next character overwrites the line, as progress bars do.
  let returned = false;
  let told = 0;
  let omitted = 0;
  const tail: string[] = [];

  function add(text: string): void {
    if (text === "") return;
    if (returned) begin();
    const room = most - line.length;
    line += room >= text.length ? text : text.slice(0, room);
    isLonger ||= text.length > room;
  }

  function begin(): void {
    line = "";
    isLonger = false;
    returned = false;
  }

  function finish(): void {
    const clean = withoutControls(line);
    // What is taken out moves the end of what is known; nothing that begins there is shown.
    const limit = isLonger ? Math.max(0, Math.min(limits.perLine, clean.length - mask.longest)) : limits.perLine;
    const isCut = isLonger || clean.length > limit;
    tell(isCut ? `${mask.cut(clean, limit)} [cut]` : mask(clean));
    begin();
  }

  function tell(text: string): void {
    if (omitted === 0 && tail.length === 0 && told + text.length <= limits.total) {
      told += text.length;
      emit(text);
      return;
    }
    tail.push(text);
    if (tail.length > limits.tail) {
      tail.shift();
      omitted++;
    }
  }

  function take(text: string): void {
    let at = 0;
    for (const { index, 0: mark } of text.matchAll(/[\r\n]/g)) {
      add(text.slice(at, index));
      at = index + 1;
      if (mark === "\n") finish();
      else returned = true;
    }
    add(text.slice(at));
  }

  return {
    push: (chunk) => take(decoder.write(chunk as Buffer)),
    end() {
      take(decoder.end());
      if (line !== "") finish();
      if (omitted > 0) emit(`[${omitted} lines left out: the output is longer than ${limits.total} characters]`);
      for (const text of tail.splice(0)) emit(text);
    },
  };
}

/** Colours are taken out; other control characters would move a reader's cursor, and a database takes no NUL. */
function withoutControls(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  return text.replace(/\u001b\[[0-?]*[ -/]*[@-~]/g, "").replace(/[\0-\u0008\u000b-\u001f\u007f-\u009f]/g, "\ufffd");
}
