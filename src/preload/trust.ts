// Programs that bring their own list of certificate authorities ignore NODE_EXTRA_CA_CERTS, so the run's authority is added to that list
// for connections they make. Nothing else about how certificates are checked is touched, and not at all what a server asks of its clients.
import tls from 'node:tls';

export function trustAlso(certificate: string): void {
  const createSecureContext = tls.createSecureContext;
  let ofServer = false;
  for (const name of ['setSecureContext', 'addContext'] as const) {
    const original: unknown = Reflect.get(tls.Server.prototype, name);
    if (typeof original !== 'function') continue;
    Object.assign(tls.Server.prototype, {
      [name](this: tls.Server, ...args: unknown[]): unknown {
        ofServer = true;
        try {
          return Reflect.apply(original, this, args);
        } finally {
          ofServer = false;
        }
      },
    });
  }
  Object.assign(tls, {
    createSecureContext(options?: tls.SecureContextOptions): tls.SecureContext {
      const { ca } = options ?? {};
      return createSecureContext(ca && !ofServer ? { ...options, ca: [ca, certificate].flat() } : options);
    },
  });
  addToDefaults(certificate);
}

/** Node 22.19 and 24.5 let a program replace the default list, and NODE_EXTRA_CA_CERTS with it. */
function addToDefaults(certificate: string): void {
  const original: unknown = Reflect.get(tls, 'setDefaultCACertificates');
  if (typeof original !== 'function') return;
  Object.assign(tls, {
    setDefaultCACertificates(certificates: unknown): unknown {
      return Reflect.apply(original, tls, [Array.isArray(certificates) ? [...(certificates as unknown[]), certificate] : certificates]);
    },
  });
}
