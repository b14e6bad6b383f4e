/** Networks of the field, with their official key layouts. */
export {};
