import { expect, test } from "vitest";
import { composeOfEvent } from "./event-compose.ts";

const LOCATION = "https://kojipkgs.fedoraproject.org/compose/cloud/Fedora-Cloud-30-20190611.0/compose";

test.each(["FINISHED", "FINISHED_INCOMPLETE"])("a compose that is %s is released from where it is", (status) => {
  const body = { status, compose_id: "Fedora-Cloud-30-20190611.0", location: LOCATION };
  expect(composeOfEvent(body)).toEqual({ id: "Fedora-Cloud-30-20190611.0", location: LOCATION });
});

test.each(["STARTED", "DOOMED", "TERMINATED", "", null, 1])("a compose that is %j is not", (status) => {
  expect(composeOfEvent({ status, location: LOCATION })).toHaveProperty("not");
});

test("slashes too many are taken out", () => {
  const location = "http://kojipkgs.fedoraproject.org/compose//cloud//Fedora-Cloud-30-20190611.0/compose/";
  expect(composeOfEvent({ status: "FINISHED", location })).toMatchObject({
    location: "http://kojipkgs.fedoraproject.org/compose/cloud/Fedora-Cloud-30-20190611.0/compose",
  });
});

test("ODCS tells of ELN in its own words", () => {
  const compose = { pungi_compose_id: "Fedora-ELN-20260101.n.0", state: 2, state_name: "done" };
  const url = "https://odcs.fedoraproject.org/composes/production/Fedora-ELN-20260101.n.0/";
  expect(composeOfEvent({ event: "state-changed", compose: { ...compose, toplevel_url: url } })).toEqual({
    ...{ id: "Fedora-ELN-20260101.n.0", location: `${url}compose` },
  });
  expect(composeOfEvent({ compose: { ...compose, state_name: "wait" } })).toEqual({ not: "the compose is wait" });
});

test.each([
  ["nothing", undefined],
  ["a file", "file:///etc/passwd"],
  ["a path", "/mnt/koji/compose"],
  ["credentials", "https://user:secret@example.org/compose"],
  ["no text", 5],
])("a message that names %s is refused", (_, location) => {
  expect(() => composeOfEvent({ status: "FINISHED", ...(location === undefined ? {} : { location }) })).toThrow(
    /does not say where/,
  );
});
