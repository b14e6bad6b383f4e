/** What all parts of the page share: tools, jobs as the server tells of them, the address, the colours. */
import type { JobRecord, StatusInfo, ToolInfo } from "../../api-types.ts";
import { getJobs, getStatus, getTools, removeJob, restoreJob } from "./api.ts";
import { when } from "./format.ts";

export type Theme = "auto" | "light" | "dark";

export type Route =
  | { readonly view: "gallery" }
  | { readonly view: "history" }
  | { readonly view: "tool"; readonly tool: string; readonly task?: string; readonly from?: string }
  | { readonly view: "job"; readonly id: string }
  | { readonly view: "compare"; readonly ids: readonly string[] };

function parseRoute(hash: string): Route {
  const [path = "", query] = hash.replace(/^#\/?/, "").split("?");
  const [view, a, b] = path.split("/").map(decodeURIComponent);
  const from = new URLSearchParams(query).get("from") ?? undefined;
  if (view === "system" && a) return { view: "tool", tool: a, task: b, from };
  if (view === "job" && a) return { view: "job", id: a };
  if (view === "compare" && a && b) return { view: "compare", ids: [a, b] };
  return view === "history" ? { view } : { view: "gallery" };
}

const THEME = "tweedie-theme";

/** Browsers may keep nothing for pages: then the colours are those of the system each time. */
function remembered(): Theme {
  try {
    return (localStorage?.getItem(THEME) as Theme | null) ?? "auto";
  } catch {
    return "auto";
  }
}

function remember(theme: Theme): void {
  try {
    localStorage?.setItem(THEME, theme);
  } catch {
    // as above
  }
}

class StudioState {
  tools = $state<readonly ToolInfo[]>([]);
  status = $state<StatusInfo>();
  jobs = $state<Record<string, JobRecord>>({});
  more = $state(false);
  /** Whether the server's events arrive. */
  online = $state(false);
  loaded = $state(false);
  problem = $state("");
  /** Jobs that were just removed and can be taken back. */
  removed = $state<readonly string[]>([]);
  theme = $state<Theme>("auto");
  route = $state<Route>({ view: "gallery" });
  sorted = $derived(Object.values(this.jobs).sort((a, b) => (a.id < b.id ? 1 : -1)));
  active = $derived(this.sorted.filter((job) => job.state === "running" || job.state === "queued"));

  start(): void {
    this.setTheme(remembered());
    const follow = (): void => {
      this.route = parseRoute(location.hash);
      scrollTo(0, 0);
    };
    addEventListener("hashchange", follow);
    follow();
    const events = new EventSource("/api/events");
    // After a pause anything may have happened, so everything is read again.
    events.addEventListener("hello", () => void this.load());
    events.addEventListener("job", ({ data }) => this.put(JSON.parse(data) as JobRecord));
    events.addEventListener("removed", ({ data }) => this.drop((JSON.parse(data) as { id: string }).id));
    events.addEventListener("error", () => {
      this.online = false;
    });
  }

  async load(): Promise<void> {
    try {
      const [tools, status, { jobs, more }] = await Promise.all([getTools(), getStatus(), getJobs()]);
      this.tools = tools;
      this.status = status;
      const oldest = jobs.at(-1)?.id ?? "";
      const older = Object.values(this.jobs).filter((job) => more && job.id < oldest);
      this.jobs = Object.fromEntries([...older, ...jobs].map((job) => [job.id, job]));
      this.more = more;
      this.online = true;
      this.loaded = true;
      if (this.problem.startsWith("The studio does not answer")) this.problem = "";
    } catch (error) {
      this.problem = (error as Error).message;
    }
  }

  async loadOlder(): Promise<void> {
    const { jobs, more } = await getJobs(this.sorted.at(-1)?.id);
    for (const job of jobs) this.put(job);
    this.more = more;
  }

  put(job: JobRecord): void {
    this.jobs[job.id] = job;
  }

  drop(id: string): void {
    delete this.jobs[id];
  }

  /** Removes jobs; for some seconds the page offers to take them back. */
  async remove(ids: readonly string[]): Promise<void> {
    const done: string[] = [];
    try {
      for (const id of ids) {
        await removeJob(id);
        this.drop(id);
        done.push(id);
      }
    } finally {
      if (done.length > 0) this.removed = done;
    }
  }

  async takeBack(): Promise<void> {
    const ids = this.removed;
    this.removed = [];
    for (const id of ids) this.put(await restoreJob(id));
  }

  setTheme(theme: Theme): void {
    this.theme = theme;
    remember(theme);
    document.documentElement.dataset.theme = theme;
  }
}

export const studio = new StudioState();

/** Models that trainings have left, as checkpoints to choose from. */
export const trainedHere = (tool: string): { name: string; label: string }[] =>
  studio.sorted
    .filter((job) => job.tool === tool)
    .flatMap((job) =>
      job.artifacts.flatMap(({ kind, name, label }, index) =>
        kind === "file" && name.endsWith("safetensors")
          ? [{ name: `${job.id}.${index}`, label: `trained here, ${when(job.created)}: ${label}` }]
          : [],
      ),
    );

/** Runs what a button does; what goes wrong is shown at the top. */
export async function attempt(work: () => Promise<unknown>): Promise<void> {
  try {
    studio.problem = "";
    await work();
  } catch (error) {
    studio.problem = (error as Error).message;
  }
}
