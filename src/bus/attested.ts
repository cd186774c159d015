/**
 * The message that carries a signed statement to whoever mirrors or checks images without our catalog. A topic of our
 * own beside `published.v1`. Body: docs/attestation.md. Fields are added, never renamed. Pure.
 */
import type { Json } from "../model.ts";
import { messageId, type OutgoingMessage } from "./outbox.ts";
import { APP, headersOf, topicWord } from "./published.ts";

const BASE = "fedora_image_uploader.attested.v1";

export function attested(about: {
  /** Of the attestation: one message each. */
  readonly id: string;
  readonly subject: "image" | "container";
  readonly composeId: string;
  readonly kind: string;
  /** An artifact's path, a repository's address. */
  readonly name: string;
  /** Last word of the topic: a subvariant, a repository. */
  readonly what: string;
  readonly predicateType: string;
  readonly statementSha256: string;
  readonly keyId: string;
  readonly envelope: { readonly [key: string]: Json };
  readonly sentAt: Date;
}): OutgoingMessage {
  return {
    id: messageId("attested", about.id),
    topic: [BASE, about.subject, about.kind, topicWord(about.what)].join("."),
    headers: headersOf(`${BASE}.${about.subject}`, about.sentAt),
    body: {
      compose_id: about.composeId,
      envelope: about.envelope,
      key_id: about.keyId,
      predicate_type: about.predicateType,
      statement_sha256: about.statementSha256,
      subject: about.name,
    },
    summary: `${APP} attested ${about.name} from compose ${about.composeId}`,
  };
}
