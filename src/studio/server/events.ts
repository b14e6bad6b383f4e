/**
 * Server-sent events. What has changed is remembered, not what was said: a browser that reads slowly gets the latest
 * state of each job once it reads again, and costs no more memory than one name per job.
 */
import type { Context } from "hono";
import { type SSEStreamingApi, streamSSE } from "hono/streaming";
import type { JobRecord } from "../api-types.ts";

/** Milliseconds between two messages about one job, and of silence before a sign of life. */
const PACE = 100;
const HEARTBEAT = 15_000;
/** Browsers that listen at once. */
const MAX_LISTENERS = 200;

export interface Broadcaster {
  changed(id: string): void;
  /** Answers with a stream that never ends by itself; undefined when too many listen already. */
  open(context: Context): Response | undefined;
  readonly listeners: number;
  close(): void;
}

interface Listener {
  readonly dirty: Set<string>;
  wake: () => void;
  open: boolean;
}

export function openBroadcaster(get: (id: string) => JobRecord | undefined): Broadcaster {
  const listeners = new Set<Listener>();

  async function serve(stream: SSEStreamingApi, listener: Listener): Promise<void> {
    await stream.writeSSE({ event: "hello", data: "{}", retry: 1000 });
    while (listener.open) {
      if (listener.dirty.size === 0) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, HEARTBEAT);
          listener.wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
      if (!listener.open) return;
      const ids = [...listener.dirty];
      listener.dirty.clear();
      if (ids.length === 0) await stream.write(": still here\n\n");
      for (const id of ids) {
        const job = get(id);
        const event = job ? "job" : "removed";
        await stream.writeSSE({ event, data: JSON.stringify(job ?? { id }) });
      }
      await stream.sleep(PACE);
    }
  }

  return {
    changed(id) {
      for (const listener of listeners) {
        listener.dirty.add(id);
        listener.wake();
      }
    },
    open(context) {
      if (listeners.size >= MAX_LISTENERS) return undefined;
      const listener: Listener = { dirty: new Set(), wake: () => {}, open: true };
      listeners.add(listener);
      const end = (): void => {
        listener.open = false;
        listeners.delete(listener);
        listener.wake();
      };
      return streamSSE(context, async (stream) => {
        stream.onAbort(end);
        try {
          await serve(stream, listener);
        } finally {
          end();
        }
      });
    },
    get listeners() {
      return listeners.size;
    },
    close() {
      for (const listener of listeners) {
        listener.open = false;
        listener.wake();
      }
    },
  };
}
