import { Title } from "@patternfly/react-core/dist/esm/components/Title";
import { useQuery } from "@tanstack/react-query";
import { get, type Message } from "./api.ts";
import { clock } from "./format.ts";
import { StateLabel } from "./state-label.tsx";

export function EventsPage() {
  const found = useQuery({
    queryKey: ["events"],
    queryFn: ({ signal }) => get<{ events: Message[] }>("/api/events", signal),
    refetchInterval: 5000,
  });
  return (
    <>
      <Title headingLevel="h1">Sent events</Title>
      <table className="list">
        <thead>
          <tr>
            <th>State</th>
            <th>When</th>
            <th>What</th>
          </tr>
        </thead>
        <tbody>
          {found.data?.events.map((message) => (
            <tr key={message.id}>
              <td>
                <StateLabel state={message.state} />
              </td>
              <td title={message.createdAt}>{clock(message.createdAt)}</td>
              <td>
                {message.summary}
                <details>
                  <summary className="faint">{message.topic}</summary>
                  <pre>{JSON.stringify(message.body, null, 2)}</pre>
                </details>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {found.data?.events.length === 0 && <p className="faint">Nothing was announced yet.</p>}
    </>
  );
}
