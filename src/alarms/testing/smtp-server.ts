/** A mail server that knows as much of SMTP (RFC 5321) as a client needs that sends one mail. */
import { type AddressInfo, createServer, type Socket } from "node:net";
import { createSecureContext, createServer as createTlsServer, TLSSocket } from "node:tls";

export interface Mail {
  readonly from: string;
  readonly to: readonly string[];
  /** Header lines and text as they came, with dots unstuffed. */
  readonly data: string;
  /** Whether it came through TLS, and who had logged in. */
  readonly encrypted: boolean;
  readonly user: string | undefined;
}

export interface SmtpServer {
  readonly port: number;
  readonly mails: Mail[];
  /** What the server answers in place of what is usual, by the beginning of a command: `{ "RCPT": "550 no" }`. */
  readonly answers: Record<string, string>;
  close(): Promise<void>;
}

export interface SmtpOptions {
  readonly tls?: { readonly cert: string; readonly key: string } | undefined;
  /** TLS from the first byte. */
  readonly implicit?: boolean;
  /** Who may log in: user and password. Without it nobody has to. */
  readonly login?: readonly [user: string, password: string] | undefined;
}

export async function startSmtp({ tls, implicit = false, login }: SmtpOptions = {}): Promise<SmtpServer> {
  const mails: Mail[] = [];
  const answers: Record<string, string> = {};
  const sockets = new Set<Socket>();
  const serve = (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
    talk(socket, { mails, answers, tls, login }, true);
  };
  const server = implicit ? createTlsServer({ ...tls }, serve) : createServer(serve);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    ...{ port: (server.address() as AddressInfo).port, mails, answers },
    close() {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

interface House extends SmtpOptions {
  readonly mails: Mail[];
  readonly answers: Record<string, string>;
}

function talk(socket: Socket, house: House, greet: boolean): void {
  const { mails, answers, tls, login } = house;
  const encrypted = socket instanceof TLSSocket;
  const say = (line: string) => socket.write(`${line}\r\n`);
  let buffered = "";
  let user: string | undefined;
  let from = "";
  let to: string[] = [];
  let inData = false;
  if (greet) say(answers["*"] ?? "220 mail.example.org ESMTP");

  function command(line: string): void {
    const [verb = ""] = line.toUpperCase().split(" ");
    const given = answers[verb];
    if (given !== undefined) {
      say(given);
      return;
    }
    if (verb === "EHLO") {
      const offers = ["mail.example.org", ...(tls && !encrypted ? ["STARTTLS"] : []), ...(login ? ["AUTH PLAIN"] : [])];
      say(offers.map((offer, at) => `250${at === offers.length - 1 ? " " : "-"}${offer}`).join("\r\n"));
    } else if (verb === "STARTTLS") {
      say("220 go on");
      socket.removeAllListeners("data");
      const secured = new TLSSocket(socket, { isServer: true, secureContext: createSecureContext({ ...tls }) });
      secured.on("error", () => {});
      talk(secured, house, false);
    } else if (verb === "AUTH") {
      const [, name, password] = Buffer.from(line.split(" ")[2] ?? "", "base64")
        .toString()
        .split("\0");
      const good = login !== undefined && name === login[0] && password === login[1];
      if (good) user = name;
      // It says back what it was told, as careless servers do.
      say(good ? "235 welcome" : `535 no: ${name} ${password} ${line}`);
    } else if (verb === "MAIL") {
      from = /<(.*?)>/.exec(line)?.[1] ?? "";
      to = [];
      say(login !== undefined && user === undefined ? "530 log in first" : "250 ok");
    } else if (verb === "RCPT") {
      to.push(/<(.*?)>/.exec(line)?.[1] ?? "");
      say("250 ok");
    } else if (verb === "DATA") {
      inData = true;
      say("354 go on");
    } else if (verb === "QUIT") {
      say("221 bye");
      socket.end();
    } else say("500 what?");
  }

  socket.on("data", (chunk) => {
    buffered += chunk.toString();
    for (;;) {
      const end = buffered.indexOf(inData ? "\r\n.\r\n" : "\r\n");
      if (end < 0) return;
      const said = buffered.slice(0, end);
      buffered = buffered.slice(end + (inData ? 5 : 2));
      if (inData) {
        inData = false;
        mails.push({ from, to, data: said.replace(/^\.\./gm, "."), encrypted, user });
        say("250 taken");
      } else command(said);
    }
  });
}
