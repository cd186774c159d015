import { EmptyState, EmptyStateBody } from "@patternfly/react-core/dist/esm/components/EmptyState";
import { Title } from "@patternfly/react-core/dist/esm/components/Title";
import { useQuery } from "@tanstack/react-query";
import { ApiError, get, type Run } from "./api.ts";
import { clock, duration } from "./format.ts";
import { Link } from "./link.tsx";
import { StateLabel } from "./state-label.tsx";
import { TroubleBox } from "./trouble.tsx";

/** Often enough to be believed; the page of one run is told as things happen. */
const REFRESH_MS = 2000;

export function RunsPage() {
  const runs = useQuery({
    queryKey: ["runs"],
    queryFn: ({ signal }) => get<{ runs: Run[] }>("/api/runs?limit=100", signal),
    refetchInterval: REFRESH_MS,
  });
  if (runs.error instanceof ApiError) return <TroubleBox trouble={runs.error.trouble} />;
  if (runs.isError)
    return <TroubleBox trouble={{ code: "unavailable", message: "The console's server does not answer." }} />;
  if (runs.data === undefined) return null;
  if (runs.data.runs.length === 0) {
    return (
      <EmptyState titleText="No runs yet">
        <EmptyStateBody>
          Start one with <code>slipway release COMPOSE</code>.
        </EmptyStateBody>
      </EmptyState>
    );
  }
  return (
    <>
      <Title headingLevel="h1">Runs</Title>
      <table className="list">
        <thead>
          <tr>
            <th>State</th>
            <th>What</th>
            <th>Run</th>
            <th>Started</th>
            <th className="number">Took</th>
          </tr>
        </thead>
        <tbody>
          {runs.data.runs.map((run) => (
            <tr key={run.id}>
              <td>
                <StateLabel state={run.state} />
              </td>
              <td>
                <Link to={`/runs/${encodeURIComponent(run.id)}`}>{run.title}</Link>
                {run.error && <div className="trouble-line">{run.error.message}</div>}
              </td>
              <td className="faint">{run.id}</td>
              <td title={new Date(run.createdAt).toISOString()}>{clock(run.createdAt)}</td>
              <td className="number">{tookOf(run)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}

export function tookOf(run: Run): string {
  if (run.startedAt === undefined) return "";
  return duration((run.endedAt ?? Date.now()) - run.startedAt);
}
