// What may happen to a running program when a secret changes: the schema and `kz run --on-rotate` take the same words.

export const ON_ROTATE = /^(restart|none|signal:(HUP|INT|TERM|QUIT|USR1|USR2))$/;
