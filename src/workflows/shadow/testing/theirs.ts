import type { Json } from "../../../model.ts";
import type { ExpectedMessage } from "../expected.ts";
import type { TheirMessage } from "../subject.ts";

/** The message of a service that agrees with us, with ids as clouds give them. */
export function agreeing(ours: ExpectedMessage, id = "their-1", prefix = "org.fedoraproject.prod"): TheirMessage {
  const body: Record<string, Json> = { ...ours.body };
  if (body.image_resource_id === null) {
    const { image_definition_name: definition, image_version_name: version } = body;
    const gallery = "/subscriptions/1/resourceGroups/fedora-cloud/providers/Microsoft.Compute/galleries/Fedora";
    body.image_resource_id = `${gallery}/images/${definition}/versions/${version}`;
  }
  if (body.image_url === null) {
    body.image_url = `https://www.googleapis.com/compute/v1/projects/fedora-cloud/global/images/${body.image_name}`;
  }
  const { regions } = body;
  if (typeof regions === "object" && regions !== null && !Array.isArray(regions)) {
    body.regions = Object.fromEntries(
      Object.keys(regions).map((region, at) => [region, `ami-${(at + 1).toString(16).padStart(17, "0")}`]),
    );
  }
  return { id, topic: `${prefix}.${ours.topic}`, schema: ours.schema, severity: ours.severity, body };
}
