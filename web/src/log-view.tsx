import { useEffect, useRef, useState } from "react";
import type { LogLine } from "./api.ts";

/** Follows the end until the reader scrolls up. */
export function LogView({
  lines,
  title,
  onAll,
}: {
  lines: readonly LogLine[];
  title: string;
  onAll: (() => void) | undefined;
}) {
  const box = useRef<HTMLDivElement>(null);
  const [following, setFollowing] = useState(true);
  const count = lines.length;
  useEffect(() => {
    if (count > 0 && following && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [count, following]);
  return (
    <div className="card log">
      <h2>
        {title}
        {onAll && (
          <button type="button" className="plain" onClick={onAll}>
            show all
          </button>
        )}
      </h2>
      <div
        className="log-lines"
        ref={box}
        onScroll={({ currentTarget: at }) => setFollowing(at.scrollHeight - at.scrollTop - at.clientHeight < 30)}
      >
        {lines.length === 0 && <p className="faint">Nothing was logged.</p>}
        {lines.map((line) => (
          <div key={keyOf(line)} className={`line ${line.level}`}>
            <time title={new Date(line.at).toISOString()}>{new Date(line.at).toISOString().slice(11, 19)}</time>
            <span className="message">
              {line.step && <span className="step-of">{line.step}</span>}
              {line.message}
              {Object.entries(line.fields ?? {}).map(([name, value]) => (
                <span key={name} className="field">
                  {" "}
                  <i>{name}</i> {typeof value === "string" ? value : JSON.stringify(value)}
                </span>
              ))}
            </span>
          </div>
        ))}
      </div>
    </div>
  );
}

/** Lines have no id, are only ever appended, and are the same objects as long as the page lives. */
const keys = new WeakMap<LogLine, number>();
let lastKey = 0;

function keyOf(line: LogLine): number {
  let key = keys.get(line);
  if (key === undefined) {
    lastKey++;
    key = lastKey;
    keys.set(line, key);
  }
  return key;
}
