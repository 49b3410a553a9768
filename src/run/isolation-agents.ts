// The variables that lead to who listens outside of a sandbox: agents, desktops, editors. A program that is told of a socket that is not there
// complains, or waits for it.

const AGENTS = new Set(
  `SSH_AUTH_SOCK SSH_AGENT_PID GPG_AGENT_INFO DBUS_SESSION_BUS_ADDRESS DBUS_SESSION_BUS_PID XDG_RUNTIME_DIR DOCKER_HOST WSL_INTEROP DISPLAY
  WAYLAND_DISPLAY XAUTHORITY TMUX VSCODE_IPC_HOOK_CLI VSCODE_GIT_IPC_HANDLE`.split(/\s+/),
);

/** The rest of them. */
export function withoutAgents(variables: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(variables).filter(([name]) => !AGENTS.has(name)));
}
