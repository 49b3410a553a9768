// Which URLs are for a database or a message broker: what speaks its own protocol, and takes user and password out of the URL.

const DATABASES = new Set([
  ...['postgres', 'postgresql', 'cockroachdb', 'mysql', 'mariadb', 'mssql', 'sqlserver', 'oracle', 'clickhouse', 'mongodb'],
  ...['redis', 'rediss', 'valkey', 'valkeys', 'amqp', 'amqps', 'nats', 'kafka'],
]);

/** Of a scheme without its colon; one part of it is enough: `postgresql+asyncpg`, `mongodb+srv`. */
export function namesDatabase(scheme: string): boolean {
  return partsOf(scheme).some((part) => DATABASES.has(part));
}

/** `clickhouse+https`: a database that is asked over HTTP. */
export function namesHttp(scheme: string): boolean {
  return partsOf(scheme).some((part) => part === 'http' || part === 'https');
}

function partsOf(scheme: string): string[] {
  return scheme.toLowerCase().split(/[^a-z0-9]/);
}
