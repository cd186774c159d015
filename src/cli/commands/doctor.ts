import { EXIT } from "../output.ts";
import type { Session } from "../session.ts";

/** Everything a release needs, looked at and not changed. Exits 1 if something is in its way. */
export async function doctor(session: Session): Promise<number> {
  const found = await session.diagnose();
  session.output.data(found, (paint) =>
    found
      .map(({ what, state, found: text, next }) => {
        const mark = { good: paint.good("✔"), warning: paint.warn("!"), bad: paint.bad("✖") }[state];
        return `${mark} ${paint.bold(what)}  ${text}${next === undefined ? "" : `\n    ${paint.dim("next")} ${next}`}`;
      })
      .join("\n"),
  );
  return found.some((one) => one.state === "bad") ? EXIT.failed : EXIT.done;
}
