// How the server ends, as far as its faces have it in common.

/** How long calls that were aborted at the end have to write their audit lines, in milliseconds. MCP clients wait two seconds before they send SIGTERM. */
export const GRACE_MS = 500;
