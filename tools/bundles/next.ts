/** A site of Next.js: the library in a route on the server and in a component on the page. */

const LAYOUT = `export default function Layout({ children }) {
  return <html lang="en"><head><link rel="icon" href="data:," /></head><body>{children}</body></html>;
}
`;

const ROUTE = `import { jit, tensor } from "tweedie";
export const dynamic = "force-dynamic";
const line = jit((x) => x.mul(2).add(1));
export const GET = async () => Response.json(await (await line(tensor([1, 2, 3]))).toArray());
`;

const PAGE = `"use client";
import { useEffect } from "react";
async function compare() {
  const { jit, tensor } = await import("tweedie");
  const line = jit((x) => x.mul(2).add(1));
  const results = {
    page: await (await line(tensor([1, 2, 3]))).toArray(),
    server: await (await fetch("/line")).json(),
  };
  const failed = Object.entries(results).filter(([, values]) => values.join() !== "3,5,7");
  return { checks: 2, failed: failed.map(([where, values]) => where + ": " + values) };
}
export default function Page() {
  useEffect(() => {
    compare().then((outcome) => (globalThis.bundle = outcome));
  }, []);
  return <p>3, 5, 7</p>;
}
`;

/** Files of the site. The library runs on the server as it is installed: its native parts cannot be bundled. */
export const NEXT_FILES = {
  "next.config.mjs": `export default { serverExternalPackages: ["tweedie"] };\n`,
  "app/layout.jsx": LAYOUT,
  "app/page.jsx": PAGE,
  "app/line/route.js": ROUTE,
} as const;
