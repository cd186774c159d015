import type { AwsSettings } from "../model.ts";
import { badName } from "./names.ts";
import { fillTemplate, type PlaceholderValues } from "./template.ts";
import type { AwsRule } from "./types.ts";

/** What a rule says for AWS alone, for one artifact. @throws SlipwayError `invalid`, its subject the place */
export function awsSettings(
  rule: AwsRule | undefined,
  values: PlaceholderValues,
  place: string,
): { readonly aws?: AwsSettings } {
  if (rule?.parameter === undefined) return {};
  const parameter = parameterName(fillTemplate(rule.parameter, values), `${place}.parameter`);
  return { aws: { parameter } };
}

/**
 * AWS takes 15 levels and a thousand characters; a tag of the image, which remembers the name, takes 255.
 * @see https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-su-create.html
 */
function parameterName(name: string, place: string): string {
  const wellFormed = /^(\/[A-Za-z0-9_.-]+){1,15}$/.test(name) && name.length <= 255;
  if (wellFormed && !/^\/(aws|ssm)/i.test(name)) return name;
  throw badName(
    place,
    `"${name.slice(0, 200)}" is no parameter's name: 1 to 15 levels as /fedora/cloud/latest, of letters, digits and . _ -, not beginning with aws or ssm`,
  );
}
