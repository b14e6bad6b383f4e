/**
 * Compiled things by key, for many callers at once. What is used least recently makes room; it is closed when its last
 * user has ended, and never before.
 */
interface Entry<T> {
  readonly value: Promise<T>;
  users: number;
  /** Not in the cache any more: to be closed when nobody uses it. */
  out: boolean;
  /** Resolves when it is closed. */
  readonly closed: Promise<void>;
  close(): void;
}

export class SharedCache<T> {
  private readonly entries = new Map<string, Entry<T>>();
  private readonly limit: number;
  private readonly dispose: (value: T) => Promise<void> | undefined;

  /**
   * @param limit entries that are kept
   * @param dispose closes what has made room
   */
  constructor(limit: number, dispose: (value: T) => Promise<void> | undefined) {
    this.limit = limit;
    this.dispose = dispose;
  }

  get size(): number {
    return this.entries.size;
  }

  /** Runs `f` on the entry of the key, which is made where it is not there. An entry that could not be made is not kept. */
  async use<R>(key: string, make: () => Promise<T>, f: (value: T) => Promise<R>): Promise<R> {
    const entry = this.take(key, make);
    entry.users++;
    try {
      return await f(await entry.value);
    } finally {
      entry.users--;
      if (entry.out && entry.users === 0) entry.close();
    }
  }

  /** Closes everything, each when its last user has ended, and waits for that. */
  async close(): Promise<void> {
    const open = [...this.entries.values()];
    this.entries.clear();
    for (const entry of open) this.leave(entry);
    await Promise.all(open.map((entry) => entry.closed));
  }

  /** The entry of a key, now the last to make room. */
  private take(key: string, make: () => Promise<T>): Entry<T> {
    const found = this.entries.get(key);
    const entry = found ?? this.opened(key, make());
    this.entries.delete(key);
    this.entries.set(key, entry);
    if (this.entries.size > this.limit) {
      const [oldest, stale] = this.entries.entries().next().value!;
      this.entries.delete(oldest);
      this.leave(stale);
    }
    return entry;
  }

  private opened(key: string, value: Promise<T>): Entry<T> {
    let close!: () => void;
    const asked = new Promise<void>((resolve) => {
      close = resolve;
    });
    // Whose making failed has nothing to close, and its error is for those who asked for it.
    const closed = asked.then(() =>
      value.then(
        (made) => this.dispose(made),
        () => undefined,
      ),
    );
    closed.catch(() => {}); // who closes the cache is told; who only made it overflow has nothing to do with it
    const entry: Entry<T> = { value, users: 0, out: false, closed, close };
    value.catch(() => {
      if (this.entries.get(key) === entry) this.entries.delete(key);
      entry.out = true;
    });
    return entry;
  }

  private leave(entry: Entry<T>): void {
    entry.out = true;
    if (entry.users === 0) entry.close();
  }
}
