/**
 * Protection from being deregistered, by us as by anybody else. What was offered gets it; nobody but a person takes it
 * away, because that is what it is for.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ami-deregistration-protection.html
 */
import type { Image } from "@aws-sdk/client-ec2";
import type { CallContext } from "../../lib/call.ts";
import type { AwsSettings, Region } from "../../model.ts";
import { CloudError } from "../errors.ts";
import type { Account } from "./account.ts";
import { vendorOf } from "./errors.ts";

/** Safe to repeat: one that is protected already is left as it is. */
export async function protect(
  account: Account,
  image: Image,
  how: NonNullable<AwsSettings["protect"]>,
  region: Region,
  call: CallContext,
): Promise<void> {
  if (isProtected(image)) return;
  const request = { ImageId: image.ImageId, WithCooldown: how === "with-cooldown" };
  await account.connection.ec2(region, "EnableImageDeregistrationProtection", image.ImageId, call, (ec2, send) =>
    ec2.enableImageDeregistrationProtection(request, send),
  );
}

/** `enabled-without-cooldown`, `enabled-with-cooldown` */
export function isProtected(image: Image): boolean {
  return image.DeregistrationProtection?.startsWith("enabled") === true;
}

export function whyNotRemoved({ ImageId: id, DeregistrationProtection: how }: Image, region: Region): CloudError {
  const cooldown = how === "enabled-with-cooldown" ? " It can be removed 24 hours after that." : "";
  return new CloudError("conflict", `${id} is protected from being deregistered (${how}).`, {
    cloud: "aws",
    operation: "DeregisterImage",
    region,
    subject: id,
    next: `If it may go, lift the protection: aws ec2 disable-image-deregistration-protection --region ${region} --image-id ${id}.${cooldown}`,
  });
}

/** What AWS's refusal to deregister means, when nothing says that the image is protected. */
export function explained(error: unknown, { ImageId: id }: Image, region: Region): unknown {
  const cause = error instanceof Error ? error.cause : undefined;
  if (vendorOf(cause).code !== "OperationNotPermitted") return error;
  return new CloudError("conflict", `AWS does not let ${id} be deregistered yet: its protection was lifted recently.`, {
    cloud: "aws",
    operation: "DeregisterImage",
    region,
    subject: id,
    next: "Remove it again 24 hours after the protection was lifted.",
    cause: error,
  });
}
