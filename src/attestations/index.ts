/**
 * Signed statements that bind an artifact of a compose to what was made of it in every cloud. Pure of clouds, of the
 * catalog and of configuration: keys and facts come in, envelopes go out, and the way back. Start at `statement.ts`.
 */
export { BUNDLE_TYPE, type Bundle, bundleOf, envelopeIn } from "./bundle.ts";
export { type Envelope, IN_TOTO, openEnvelope, parseEnvelope, signEnvelope } from "./dsse.ts";
export { readSigningKey, readVerifyingKey, type SigningKey, type VerifyingKey } from "./keys.ts";
export {
  CONTAINER_RELEASE,
  type ContainerRelease,
  containerStatement,
  IMAGE_RELEASE,
  type ImageRelease,
  imageStatement,
  parseStatement,
  type Statement,
  statementBytes,
} from "./statement.ts";
