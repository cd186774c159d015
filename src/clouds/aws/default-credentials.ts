import { SlipwayError } from "../../lib/errors.ts";
import type { AwsCredentials } from "./signature.ts";

/**
 * Credentials from where AWS's own tools find them: environment, shared files (with the profile named), web identity,
 * container or instance role. Looked up when they are first needed, and again before they end.
 * @throws SlipwayError `unauthenticated` when there are none
 */
export function defaultCredentials(profile?: string): () => Promise<AwsCredentials> {
  let provider: (() => Promise<AwsCredentials>) | undefined;
  return async () => {
    if (provider === undefined) {
      const { fromNodeProviderChain } = await import("@aws-sdk/credential-providers");
      provider = fromNodeProviderChain(profile === undefined ? {} : { profile }) as () => Promise<AwsCredentials>;
    }
    try {
      return await provider();
    } catch (error) {
      throw new SlipwayError("unauthenticated", "no AWS credentials were found", {
        subject: profile === undefined ? "AWS credentials" : `AWS profile ${profile}`,
        tried: "environment, shared configuration files, web identity, container and instance roles",
        next: "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `credentials` of the target.",
        cause: error,
      });
    }
  };
}
