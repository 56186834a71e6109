/** Sleeps so long or until the signal; whether it was the signal. */
export function sleep(ms: number, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve(true);
    const over = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", over);
      resolve(signal.aborted);
    };
    const timer = setTimeout(over, ms);
    signal.addEventListener("abort", over);
  });
}
