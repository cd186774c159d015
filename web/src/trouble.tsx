import { Alert } from "@patternfly/react-core/dist/esm/components/Alert";
import type { Trouble } from "./api.ts";

/** An error as a person needs it: what, to what, what was tried, what to do. */
export function TroubleBox({ trouble, title }: { trouble: Trouble; title?: string }) {
  const where = [trouble.cloud, trouble.operation, trouble.region].filter(Boolean).join(" · ");
  return (
    <Alert variant="danger" isInline title={title ?? trouble.message}>
      {title !== undefined && <p>{trouble.message}</p>}
      <dl className="facts">
        <dt>Code</dt>
        <dd>{trouble.code}</dd>
        {trouble.subject && (
          <>
            <dt>About</dt>
            <dd>{trouble.subject}</dd>
          </>
        )}
        {where && (
          <>
            <dt>Where</dt>
            <dd>
              {where} {trouble.requestId && <code>{trouble.requestId}</code>}
            </dd>
          </>
        )}
        {trouble.tried && (
          <>
            <dt>Tried</dt>
            <dd>{trouble.tried}</dd>
          </>
        )}
        {trouble.next && (
          <>
            <dt>Next</dt>
            <dd>
              <strong>{trouble.next}</strong>
            </dd>
          </>
        )}
      </dl>
    </Alert>
  );
}
