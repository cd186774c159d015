import { Title } from "@patternfly/react-core/dist/esm/components/Title";
import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { ApiError, get, type LogLine, type Run, type Step } from "./api.ts";
import { bytes, clock, duration } from "./format.ts";
import { LogView } from "./log-view.tsx";
import { tookOf } from "./runs-page.tsx";
import { StateLabel } from "./state-label.tsx";
import { TroubleBox } from "./trouble.tsx";
import { useRunEvents } from "./use-run-events.ts";

export function RunPage({ id }: { id: string }) {
  const first = useQuery({
    queryKey: ["run", id],
    queryFn: ({ signal }) => get<{ run: Run }>(`/api/runs/${encodeURIComponent(id)}`, signal),
  });
  const live = useRunEvents(id);
  const [only, setOnly] = useState<string | undefined>();
  const lines = useMemo(() => linesOf(live.lines, only), [live.lines, only]);
  if (first.error instanceof ApiError) return <TroubleBox trouble={first.error.trouble} />;
  const run = live.runs.get(id) ?? first.data?.run;
  if (run === undefined) return null;
  const groups = [...live.runs.values()].filter((one) => one.id !== id).sort((a, b) => a.title.localeCompare(b.title));
  const stepsOf = (owner: string) => [...live.steps.values()].filter((step) => step.run === owner);
  return (
    <>
      <header className="run-head">
        <Title headingLevel="h1">{run.title}</Title>
        <StateLabel state={run.state} />
        <span className="faint">{run.id}</span>
        <span className="faint">started {clock(run.createdAt)}</span>
        <span className="faint">{tookOf(run)}</span>
        {!live.connected && run.endedAt === undefined && <span className="faint">reconnecting …</span>}
      </header>
      {run.error && <TroubleBox trouble={run.error} title="The run failed" />}
      <div className="run-body">
        <section>
          {[run, ...groups].map((one) => (
            <RunCard key={one.id} run={one} steps={stepsOf(one.id)} chosen={only} onChoose={setOnly} />
          ))}
        </section>
        <section>
          <LogView
            lines={lines}
            title={only === undefined ? "Log" : `Log of ${only}`}
            onAll={only === undefined ? undefined : () => setOnly(undefined)}
          />
        </section>
      </div>
    </>
  );
}

function linesOf(lines: readonly LogLine[], only: string | undefined): readonly LogLine[] {
  // Debug lines are for `slipway runs logs --debug`.
  return lines.filter((line) => line.level !== "debug" && (only === undefined || line.step === only));
}

function RunCard({
  run,
  steps,
  chosen,
  onChoose,
}: {
  run: Run;
  steps: readonly Step[];
  chosen: string | undefined;
  onChoose: (step: string | undefined) => void;
}) {
  return (
    <article className="card">
      <h2>
        <StateLabel state={run.state} /> {run.title} <span className="faint">{tookOf(run)}</span>
      </h2>
      {run.error && <TroubleBox trouble={run.error} />}
      <ol className="steps">
        {steps.map((step) => (
          <li key={step.key} className={`step ${step.state} ${chosen === step.key ? "chosen" : ""}`}>
            <button type="button" onClick={() => onChoose(chosen === step.key ? undefined : step.key)}>
              <span className="mark" title={step.state} />
              <span className="step-name">{step.key}</span>
              <span className="faint">
                {step.attempts.length > 1 && `attempt ${step.attempts.length} · `}
                {step.endedAt === undefined ? amountOf(step) : duration(step.endedAt - step.startedAt)}
              </span>
            </button>
            {step.state === "running" && <Bar step={step} />}
            {step.error && step.state !== "done" && <TroubleBox trouble={step.error} />}
          </li>
        ))}
      </ol>
    </article>
  );
}

function Bar({ step }: { step: Step }) {
  const share = shareOf(step);
  if (share === undefined) return null;
  return <progress max={100} value={share * 100} aria-label={`${step.key}: ${Math.round(share * 100)} %`} />;
}

function shareOf({ progress }: Step): number | undefined {
  if (progress?.totalBytes) return (progress.doneBytes ?? 0) / progress.totalBytes;
  if (progress?.totalRegions) return (progress.doneRegions ?? 0) / progress.totalRegions;
  return undefined;
}

function amountOf({ progress }: Step): string {
  if (progress?.totalBytes) return `${bytes(progress.doneBytes ?? 0)} of ${bytes(progress.totalBytes)}`;
  if (progress?.totalRegions) return `${progress.doneRegions ?? 0} of ${progress.totalRegions} regions`;
  return "";
}
