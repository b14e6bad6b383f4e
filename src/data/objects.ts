/** Objects in label maps: connected pieces of foreground. */

/** How many connected pieces the foreground (any label but 0) of a map [H, W] has; pixels that touch at a corner are connected. */
export function countObjects(labels: ArrayLike<number>, width: number): number {
  const { length } = labels;
  const seen = new Uint8Array(length);
  const stack: number[] = [];
  let count = 0;
  const visit = (at: number): void => {
    if (seen[at] || labels[at] === 0) return;
    seen[at] = 1;
    stack.push(at);
  };
  for (let start = 0; start < length; start++) {
    if (seen[start] || labels[start] === 0) continue;
    count++;
    visit(start);
    for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
      const x = at % width;
      for (let row = at - x - width; row <= at - x + width; row += width)
        if (row >= 0 && row < length)
          for (let column = Math.max(0, x - 1); column <= Math.min(width - 1, x + 1); column++)
            visit(row + column);
    }
  }
  return count;
}
