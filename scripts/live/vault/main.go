// A Vault server for tests, as `vault server -dev` starts it: unsealed, empty, in memory, on 127.0.0.1 only. It is Vault's own code (the last
// release line under MPL-2.0) with the few engines and login methods that kz speaks. It ends when its standard input does, so that a test
// runner that dies leaves nothing behind.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	jwtauth "github.com/hashicorp/vault-plugin-auth-jwt"
	kubernetesauth "github.com/hashicorp/vault-plugin-auth-kubernetes"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/credential/approle"
	awsauth "github.com/hashicorp/vault/builtin/credential/aws"
	"github.com/hashicorp/vault/builtin/logical/database"
	"github.com/hashicorp/vault/helper/namespace"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/plugins/database/postgresql"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

// What is printed, on one line, once the server answers.
type ready struct {
	Address     string `json:"address"`
	Token       string `json:"token"`
	UnsealKey   string `json:"unseal_key"`
	Certificate string `json:"certificate,omitempty"`
}

func main() {
	port := flag.Int("port", 0, "the port on 127.0.0.1; 0 takes a free one")
	secure := flag.Bool("tls", false, "HTTPS, with a certificate of its own")
	level := flag.String("log", "off", "what to log on stderr: off, error, warn, info, debug, trace")
	flag.Parse()
	if err := serve(*port, *secure, hclog.LevelFromString(*level)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(port int, secure bool, level hclog.Level) error {
	core, err := newCore(hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: level}))
	if err != nil {
		return err
	}
	started, err := start(core)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core}),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // It tells of each client that does not trust the certificate.
	}
	started.Address = "http://" + listener.Addr().String()
	if secure {
		certificate, err := selfSigned()
		if err != nil {
			return err
		}
		started.Address = "https://" + listener.Addr().String()
		started.Certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}))
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}})
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	if err := json.NewEncoder(os.Stdout).Encode(started); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		failed <- nil
	}()
	return <-failed
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: "a vault of kz's tests"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func newCore(logger hclog.Logger) (*vault.Core, error) {
	storage, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return nil, err
	}
	return vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		StorageType:        "inmem",
		Logger:             logger,
		DisableMlock:       true,
		LogicalBackends:    engines,
		CredentialBackends: methods,
		BuiltinRegistry:    builtins{},
	})
}

// Initializes and unseals with one key, replaces the root token by the one in VAULT_TOKEN if that is set, and mounts `secret/`.
func start(core *vault.Core) (ready, error) {
	ctx := namespace.RootContext(context.Background())
	one := &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}
	made, err := core.Initialize(ctx, &vault.InitParams{BarrierConfig: one})
	if err != nil {
		return ready{}, err
	}
	shown := hex.EncodeToString(made.SecretShares[0]) // Unseal wipes the key.
	if _, err := core.Unseal(made.SecretShares[0]); err != nil {
		return ready{}, err
	}
	token := made.RootToken
	if wanted := os.Getenv("VAULT_TOKEN"); wanted != "" {
		body := map[string]any{"id": wanted, "policies": []string{"root"}, "no_parent": true, "no_default_policy": true}
		if err := post(ctx, core, token, "auth/token/create", body); err != nil {
			return ready{}, err
		}
		if err := post(ctx, core, token, "auth/token/revoke-self", nil); err != nil {
			return ready{}, err
		}
		token = wanted
	}
	mount := map[string]any{"type": "kv", "options": map[string]string{"version": "2"}}
	return ready{Token: token, UnsealKey: shown}, post(ctx, core, token, "sys/mounts/secret", mount)
}

func post(ctx context.Context, core *vault.Core, token, path string, body map[string]any) error {
	request := &logical.Request{Operation: logical.UpdateOperation, ClientToken: token, Path: path, Data: body}
	response, err := core.HandleRequest(ctx, request)
	if err == nil && response.IsError() {
		err = response.Error()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

var engines = map[string]logical.Factory{"kv": kv.Factory, "database": database.Factory}

var methods = map[string]logical.Factory{
	"approle":    approle.Factory,
	"aws":        awsauth.Factory,
	"jwt":        jwtauth.Factory,
	"oidc":       jwtauth.Factory,
	"kubernetes": kubernetesauth.Factory,
}

const postgres = "postgresql-database-plugin"

// What Vault asks for a plugin before it looks for a program; it knows no other plugins here.
type builtins struct{}

func (builtins) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	switch kind {
	case consts.PluginTypeSecrets:
		return made(engines[name])
	case consts.PluginTypeCredential:
		return made(methods[name])
	case consts.PluginTypeDatabase:
		return postgresql.New, name == postgres
	}
	return nil, false
}

func made(factory logical.Factory) (func() (any, error), bool) {
	return func() (any, error) { return factory, nil }, factory != nil
}

func (b builtins) Contains(name string, kind consts.PluginType) bool {
	_, found := b.Get(name, kind)
	return found
}

func (builtins) Keys(kind consts.PluginType) []string {
	var names []string
	switch kind {
	case consts.PluginTypeSecrets:
		for name := range engines {
			names = append(names, name)
		}
	case consts.PluginTypeCredential:
		for name := range methods {
			names = append(names, name)
		}
	case consts.PluginTypeDatabase:
		names = append(names, postgres)
	}
	return names
}

func (builtins) DeprecationStatus(string, consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, true
}

func (builtins) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
