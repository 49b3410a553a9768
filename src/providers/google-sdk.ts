// What kz uses of Google's own library, in a file that is only loaded when a config names GCP.
export { GoogleAuth } from 'google-auth-library';
