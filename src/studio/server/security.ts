/** Who may ask: hosts, origins, the token; and what the page may do. */
import { createHash, timingSafeEqual } from "node:crypto";
import { hostname, networkInterfaces } from "node:os";
import type { MiddlewareHandler } from "hono";
import { getCookie, setCookie } from "hono/cookie";
import { HttpError } from "./http-error.ts";

export interface Access {
  readonly host: string;
  readonly port: number;
  /** Needed where other machines can reach the server. */
  readonly token: string | undefined;
  /** Further names that the server is called by, without port. */
  readonly names: readonly string[];
}

const LOOPBACK = ["127.0.0.1", "localhost", "[::1]"];
/** Cookies do not tell ports apart: two studios on one machine need two. */
const cookieName = (port: number): string => `tweedie_token_${port}`;

export const isLoopback = (host: string): boolean =>
  /^127(?:\.\d{1,3}){3}$/.test(host) || host === "::1" || host === "localhost";

const isWildcard = (host: string): boolean => host === "0.0.0.0" || host === "::";

/** This machine's addresses on its networks. No page can make them its own name. */
export const ownAddresses = (): string[] =>
  Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ internal }) => !internal)
    .map(({ address, family }) => (family === "IPv6" ? `[${address}]` : address));

/** Names with port that a browser may have called us by: anything else is a page that points its own name at us. */
function allowedHosts({ host, port, names }: Access): Set<string> {
  const own = host.includes(":") ? `[${host}]` : host;
  return new Set(
    [...LOOPBACK, ...(isWildcard(host) ? [hostname(), ...ownAddresses()] : [own]), ...names].flatMap(
      (name) =>
        port === 80 ? [name.toLowerCase(), `${name.toLowerCase()}:80`] : [`${name.toLowerCase()}:${port}`],
    ),
  );
}

const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
const same = (a: string, b: string): boolean => timingSafeEqual(digest(a), digest(b));

/** Refuses requests that were addressed to another name, or that another page makes. */
export function checkOrigin(access: Access): MiddlewareHandler {
  const hosts = allowedHosts(access);
  return async (c, next) => {
    const host = c.req.header("host")?.toLowerCase() ?? "";
    if (!hosts.has(host))
      throw new HttpError(403, "this server is not called that (Host header); --name allows another name");
    const origin = c.req.header("origin")?.toLowerCase();
    if (origin !== undefined && origin !== `http://${host}`)
      throw new HttpError(403, "requests from other pages are refused (Origin header)");
    const site = c.req.header("sec-fetch-site");
    const mode = c.req.header("sec-fetch-mode");
    // A link from elsewhere may open the page; nothing else may come from there.
    if (site && site !== "same-origin" && site !== "none" && !(mode === "navigate" && c.req.method === "GET"))
      throw new HttpError(403, "requests from other pages are refused (Sec-Fetch-Site header)");
    await next();
  };
}

/** Asks for the token, when there is one: as a bearer, as a cookie, or once in the address, which sets the cookie. */
export function checkToken({ token, port }: Access): MiddlewareHandler {
  return async (c, next) => {
    if (token === undefined) return next();
    const bearer = /^Bearer (.+)$/.exec(c.req.header("authorization") ?? "")?.[1];
    const given = bearer ?? getCookie(c, cookieName(port));
    if (given !== undefined && same(given, token)) return next();
    const asked = c.req.query("token");
    if (c.req.method === "GET" && asked !== undefined && same(asked, token)) {
      setCookie(c, cookieName(port), token, { httpOnly: true, sameSite: "Strict", path: "/" });
      return c.redirect("/");
    }
    throw new HttpError(401, "this studio needs its token: open the address that it printed");
  };
}

const escaped = (text: string): string => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

/** A refusal for people: with a place for the token where that is what is missing. */
export const refusalPage = (status: number, message: string): string => `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><title>Tweedie studio</title></head>
<body><main><h1>Tweedie studio</h1><p>${escaped(message)}</p>
${status === 401 ? '<form method="get" action="/"><label>Token <input name="token" type="password" autofocus></label> <button>Open</button></form>' : ""}
</main></body></html>
`;

/** The page may load what this server serves, and nothing else. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self' blob:",
  "style-src 'self'",
  "img-src 'self' blob: data:",
  "connect-src 'self'",
  "font-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'self'",
  "frame-ancestors 'none'",
].join("; ");

const HEADERS: Readonly<Record<string, string>> = {
  "content-security-policy": POLICY,
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
  "cross-origin-resource-policy": "same-origin",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "permissions-policy": "camera=(), microphone=(), geolocation=()",
};

export const secureHeaders: MiddlewareHandler = async (c, next) => {
  await next();
  for (const [name, value] of Object.entries(HEADERS)) c.header(name, value);
};
