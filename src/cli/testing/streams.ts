/** A stream that keeps what is written to it; a terminal of 80 × 24 if asked for. */
export function fakeStream(terminal = false, size: { columns?: number; rows?: number } = {}) {
  let written = "";
  const stream = {
    isTTY: terminal,
    columns: size.columns ?? 80,
    rows: size.rows ?? 24,
    write(text: string) {
      written += text;
      return true;
    },
  };
  return {
    stream: stream as unknown as NodeJS.WriteStream,
    text: () => written,
    clear() {
      written = "";
    },
  };
}
