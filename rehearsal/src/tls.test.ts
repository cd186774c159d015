import { once } from "node:events";
import https from "node:https";
import net from "node:net";
import { expect, test } from "vitest";
import { createAuthority, serve } from "./tls.ts";

test("a client that trusts the authority is served, one that does not refuses", async () => {
  const authority = await createAuthority(["*.blob.example"]);
  const served = await serve((_request, response) => response.end("here"), { tls: authority });
  try {
    expect(await get(served.url, { ca: authority.ca })).toBe("here");
    expect(await get(served.url.replace("127.0.0.1", "localhost"), { ca: authority.ca })).toBe("here");
    expect(await get(served.url, { ca: authority.ca, servername: "images.blob.example" })).toBe("here");
    await expect(get(served.url, {})).rejects.toThrow(/certificate/);
    const other = await createAuthority();
    await expect(get(served.url, { ca: other.ca })).rejects.toThrow(/certificate|signature/);
  } finally {
    await served.close();
    await served.close();
  }
});

test("a client that never finishes shaking hands does not keep the server", async () => {
  const served = await serve((_request, response) => response.end("here"), { tls: await createAuthority() });
  const mute = net.connect(served.port, "127.0.0.1");
  const gone = once(
    mute.on("error", () => {}),
    "close",
  );
  await once(mute, "connect");
  // Another request, so that the server has seen the mute one too.
  await get(served.url, { rejectUnauthorized: false });
  await served.close();
  await gone;
});

function get(url: string, options: https.RequestOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = https.get(url, { agent: false, ...options }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => resolve(text));
    });
    request.on("error", reject);
  });
}
