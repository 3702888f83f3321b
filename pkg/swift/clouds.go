package swift

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// LoadCredentials finds the credentials of an account:
//
//  1. cloud (or OS_CLOUD, or the only one) in the given clouds.yaml;
//  2. without a file, if cloud, OS_CLOUD or OS_CLIENT_CONFIG_FILE is set, the same
//     in OS_CLIENT_CONFIG_FILE or the first clouds.yaml in ., ~/.config/openstack
//     and /etc/openstack;
//  3. ST_AUTH, ST_USER and ST_KEY: version 1;
//  4. OS_AUTH_URL and the other OS_ variables: version 3.
func LoadCredentials(file, cloud string) (Credentials, error) {
	if cloud == "" {
		cloud = os.Getenv("OS_CLOUD")
	}
	var cred Credentials
	var err error
	switch {
	case file != "":
		cred, err = fromFile(file, cloud)
	case cloud != "" || os.Getenv("OS_CLIENT_CONFIG_FILE") != "":
		cred, err = fromFile(findFile(), cloud)
	case os.Getenv("ST_AUTH") != "", os.Getenv("OS_AUTH_URL") != "":
		cred, err = fromVariables(os.Getenv)
	default:
		err = errors.New("none given: name a clouds.yaml, or set OS_CLOUD, OS_AUTH_URL …, or ST_AUTH, ST_USER and ST_KEY")
	}
	if err == nil {
		err = cred.check()
	}
	if err != nil {
		return Credentials{}, fmt.Errorf("credentials of the object store: %w", err)
	}
	return cred, nil
}

func findFile() string {
	if f := os.Getenv("OS_CLIENT_CONFIG_FILE"); f != "" {
		return f
	}
	const name = "clouds.yaml"
	system := filepath.Join("/etc/openstack", name)
	places := []string{name}
	if dir, err := os.UserConfigDir(); err == nil {
		places = append(places, filepath.Join(dir, "openstack", name))
	}
	for _, f := range places {
		if _, err := os.Stat(f); err == nil {
			return f
		}
	}
	return system
}

func fromFile(file, name string) (Credentials, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Credentials{}, err
	}
	var content struct {
		Clouds map[string]cloud `json:"clouds"`
	}
	if yaml.Unmarshal(b, &content) != nil { // the error would quote the file, secrets and all
		return Credentials{}, fmt.Errorf("%s is not a clouds.yaml", file)
	}
	names := slices.Sorted(maps.Keys(content.Clouds))
	if name == "" && len(names) == 1 {
		name = names[0]
	}
	c, found := content.Clouds[name]
	if !found {
		return Credentials{}, fmt.Errorf("cloud %q is not among those of %s: %s; set OS_CLOUD", name, file, strings.Join(names, ", "))
	}
	cred, err := c.credentials()
	if err != nil {
		return Credentials{}, fmt.Errorf("cloud %q of %s: %w", name, file, err)
	}
	return cred, nil
}

// cloud is an entry of clouds.yaml, as far as it concerns us.
type cloud struct {
	AuthType  string `json:"auth_type"`
	Region    string `json:"region_name"`
	Interface string `json:"interface"`
	CAFile    string `json:"cacert"`
	Verify    *bool  `json:"verify"`
	Auth      struct {
		URL             string `json:"auth_url"`
		User            string `json:"username"`
		UserID          string `json:"user_id"`
		Password        string `json:"password"`
		Domain          string `json:"domain_name"` // of user and project, unless given apart
		DomainID        string `json:"domain_id"`
		UserDomain      string `json:"user_domain_name"`
		UserDomainID    string `json:"user_domain_id"`
		Project         string `json:"project_name"`
		ProjectID       string `json:"project_id"`
		ProjectDomain   string `json:"project_domain_name"`
		ProjectDomainID string `json:"project_domain_id"`
		AppID           string `json:"application_credential_id"`
		AppName         string `json:"application_credential_name"`
		AppSecret       string `json:"application_credential_secret"`
	} `json:"auth"`
}

// ParseCredentials takes in the secrets of a CSI request, which have the names of
// the variables in 3 and 4 above, except OS_CACERT: no request names our files.
// Its errors name keys and no values.
func ParseCredentials(secrets map[string]string) (Credentials, error) {
	asked := map[string]bool{}
	cred, err := fromVariables(func(name string) string {
		asked[name] = name != caVariable
		if name == caVariable {
			return ""
		}
		return secrets[name]
	})
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		if !asked[name] {
			return Credentials{}, fmt.Errorf("credentials of the object store: %.64q is not the name of a credential", name)
		}
	}
	if err == nil {
		err = cred.check()
	}
	if err != nil {
		return Credentials{}, fmt.Errorf("credentials of the object store: %w", err)
	}
	return cred, nil
}

const caVariable = "OS_CACERT"

// fromVariables reads the variables of Swift's version 1, or else those of an
// OpenStack rc file.
func fromVariables(get func(string) string) (Credentials, error) {
	old := Credentials{Version: 1, AuthURL: get("ST_AUTH"), User: get("ST_USER"), Key: get("ST_KEY")}
	c := cloud{
		AuthType:  get("OS_AUTH_TYPE"),
		Region:    get("OS_REGION_NAME"),
		Interface: cmp.Or(get("OS_INTERFACE"), get("OS_ENDPOINT_TYPE")),
		CAFile:    get(caVariable),
	}
	a := &c.Auth
	for name, field := range map[string]*string{
		"OS_AUTH_URL": &a.URL, "OS_USERNAME": &a.User, "OS_USER_ID": &a.UserID, "OS_PASSWORD": &a.Password,
		"OS_USER_DOMAIN_NAME": &a.UserDomain, "OS_USER_DOMAIN_ID": &a.UserDomainID,
		"OS_PROJECT_NAME": &a.Project, "OS_PROJECT_ID": &a.ProjectID,
		"OS_PROJECT_DOMAIN_NAME": &a.ProjectDomain, "OS_PROJECT_DOMAIN_ID": &a.ProjectDomainID,
		"OS_APPLICATION_CREDENTIAL_ID":     &a.AppID,
		"OS_APPLICATION_CREDENTIAL_NAME":   &a.AppName,
		"OS_APPLICATION_CREDENTIAL_SECRET": &a.AppSecret,
	} {
		*field = get(name)
	}
	if old.AuthURL != "" {
		return old, nil
	}
	return c.credentials()
}

func (c cloud) credentials() (Credentials, error) {
	a := c.Auth
	cred := Credentials{
		Version: 3, AuthURL: a.URL,
		User: a.User, UserID: a.UserID, Key: a.Password,
		UserDomain: cmp.Or(a.UserDomain, a.Domain), UserDomainID: cmp.Or(a.UserDomainID, a.DomainID),
		AppID: a.AppID, AppName: a.AppName, AppSecret: a.AppSecret,
		Project: a.Project, ProjectID: a.ProjectID,
		ProjectDomain: cmp.Or(a.ProjectDomain, a.Domain), ProjectDomainID: cmp.Or(a.ProjectDomainID, a.DomainID),
		Region: c.Region, Interface: strings.TrimSuffix(c.Interface, "URL"),
		CAFile: c.CAFile, Insecure: c.Verify != nil && !*c.Verify,
	}
	switch c.AuthType {
	case "v1password", "v1":
		cred.Version = 1
		return cred, nil
	case "v3applicationcredential":
		if a.AppSecret == "" {
			return cred, errors.New("no application_credential_secret")
		}
	case "", "password", "v3password":
	default:
		return cred, fmt.Errorf("auth_type %q: password, v3password, v3applicationcredential and v1password are known", c.AuthType)
	}
	if base := strings.TrimRight(cred.AuthURL, "/"); base != "" && !strings.HasSuffix(base, "/v3") {
		cred.AuthURL = base + "/v3" // many files name the service without its version
	}
	return cred, nil
}
