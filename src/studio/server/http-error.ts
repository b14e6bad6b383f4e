/** Errors with a status for the one who asked. */
import { TweedieError } from "../../errors.ts";

/** What is wrong with a request. */
export class HttpError extends TweedieError {
  readonly status: 400 | 401 | 403 | 404 | 405 | 408 | 409 | 413 | 415 | 422 | 429 | 500 | 503 | 507;
  constructor(status: HttpError["status"], message: string) {
    super("HTTP", message);
    this.status = status;
  }
}
