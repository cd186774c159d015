import { Title } from "@patternfly/react-core/dist/esm/components/Title";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { type ArrivedEvent, get, type Message, type Pause, type Quarantined } from "./api.ts";
import { clock } from "./format.ts";
import { Link } from "./link.tsx";
import { StateLabel } from "./state-label.tsx";

const REFRESH_MS = 5000;

const TABS = [
  { path: "/events", name: "Arrived" },
  { path: "/events/quarantine", name: "Quarantine" },
  { path: "/events/sent", name: "Sent" },
] as const;

export function EventsPage({ path }: { path: string }) {
  return (
    <>
      <Title headingLevel="h1">Events</Title>
      <nav className="tabs" aria-label="Events">
        {TABS.map((tab) => (
          <Link key={tab.path} to={tab.path} className={path === tab.path ? "here" : ""}>
            {tab.name}
          </Link>
        ))}
      </nav>
      {path === "/events/quarantine" ? <Quarantine /> : path === "/events/sent" ? <Sent /> : <Arrived />}
    </>
  );
}

function Arrived() {
  const found = useQuery({
    queryKey: ["events"],
    queryFn: ({ signal }) => get<{ events: ArrivedEvent[]; pauses: Pause[] }>("/api/events", signal),
    refetchInterval: REFRESH_MS,
  });
  return (
    <>
      {found.data?.pauses.map((pause) => (
        <p key={pause.rule} className="notice">
          {pause.rule === "*" ? "Every rule" : `Rule ${pause.rule}`} is paused ({pause.mode}): {pause.reason}
        </p>
      ))}
      <table className="list">
        <thead>
          <tr>
            <th>Received</th>
            <th>From</th>
            <th>What</th>
            <th>What was done</th>
          </tr>
        </thead>
        <tbody>
          {found.data?.events.map((event) => (
            <tr key={event.id}>
              <td title={event.receivedAt}>{clock(event.receivedAt)}</td>
              <td>{event.source}</td>
              <td>
                {event.topic}
                {event.deliveries > 1 && <span className="faint"> delivered {event.deliveries} times</span>}
                <EventBody id={event.id} />
              </td>
              <td>
                {!event.dispatched && <span className="faint">not looked at yet</span>}
                {event.dispatched && event.rules.length === 0 && <span className="faint">no rule meant it</span>}
                {event.rules.map((done) => (
                  <div key={`${done.rule} ${done.generation}`} className="done">
                    <StateLabel state={done.run ?? done.state} />
                    {done.runId === undefined ? (
                      <span> {done.rule}</span>
                    ) : (
                      <Link to={`/runs/${encodeURIComponent(done.runId)}`}>{done.rule}</Link>
                    )}
                    {done.generation > 1 && <span className="faint"> replay {done.generation - 1}</span>}
                    {done.why && <div className="faint">{done.why}</div>}
                    {done.state === "waiting" && <div className="faint">until {clock(done.dueAt)} at least</div>}
                  </div>
                ))}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {found.data?.events.length === 0 && (
        <p className="faint">
          Nothing has arrived. <code>bus</code>, <code>webhooks</code> and <code>timers</code> in slipway.yaml are the
          doors.
        </p>
      )}
    </>
  );
}

/** Asked for when somebody opens it: a body may be large. */
function EventBody({ id }: { id: string }) {
  const [open, setOpen] = useState(false);
  const found = useQuery({
    queryKey: ["event", id],
    queryFn: ({ signal }) => get<{ body: unknown }>(`/api/events/${encodeURIComponent(id)}`, signal),
    enabled: open,
  });
  return (
    <details onToggle={(happened) => setOpen(happened.currentTarget.open)}>
      <summary className="faint">{id}</summary>
      <pre>{found.data === undefined ? "…" : JSON.stringify(found.data.body, null, 2)}</pre>
    </details>
  );
}

function Quarantine() {
  const found = useQuery({
    queryKey: ["quarantine"],
    queryFn: ({ signal }) => get<{ messages: Quarantined[] }>("/api/quarantine", signal),
    refetchInterval: REFRESH_MS,
  });
  return (
    <>
      <table className="list">
        <thead>
          <tr>
            <th>Last</th>
            <th>Why</th>
            <th>What</th>
            <th className="number">Size</th>
            <th className="number">Times</th>
          </tr>
        </thead>
        <tbody>
          {found.data?.messages.map((message) => (
            <tr key={`${message.id} ${message.reason} ${message.lastAt}`}>
              <td title={message.lastAt}>{clock(message.lastAt)}</td>
              <td>
                {message.reason}
                <div className="faint">{message.detail}</div>
              </td>
              <td>
                {message.topic}
                <div className="faint">{message.id}</div>
              </td>
              <td className="number">{message.bytes} B</td>
              <td className="number">{message.deliveries}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {found.data?.messages.length === 0 && <p className="faint">Everything that came could be read.</p>}
    </>
  );
}

function Sent() {
  const found = useQuery({
    queryKey: ["messages"],
    queryFn: ({ signal }) => get<{ messages: Message[] }>("/api/messages", signal),
    refetchInterval: REFRESH_MS,
  });
  return (
    <>
      <table className="list">
        <thead>
          <tr>
            <th>State</th>
            <th>When</th>
            <th>What</th>
          </tr>
        </thead>
        <tbody>
          {found.data?.messages.map((message) => (
            <tr key={message.id}>
              <td>
                <StateLabel state={message.state} />
              </td>
              <td title={message.createdAt}>{clock(message.createdAt)}</td>
              <td>
                {message.summary}
                {message.trouble && <div className="trouble-line">{message.trouble}</div>}
                <details>
                  <summary className="faint">{message.topic}</summary>
                  <pre>{JSON.stringify(message.body, null, 2)}</pre>
                </details>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {found.data?.messages.length === 0 && <p className="faint">Nothing was announced yet.</p>}
    </>
  );
}
