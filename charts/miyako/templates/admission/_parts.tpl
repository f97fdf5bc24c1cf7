{{- /*
The policies below hold our own accounts to what they are for; RBAC alone cannot. Common to all of them:
- failurePolicy Fail: what cannot be judged is refused.
- They match on the account's user name, so nobody else's requests are looked at (but for plans, which concern everyone).
- `object.?field` reads a field that may be missing; two missing fields are equal.
*/ -}}

{{- /* include "miyako.admission.binding" (dict "root" $ "name" "…") */ -}}
{{- define "miyako.admission.binding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}
  labels:
    {{- include "miyako.labels" .root | nindent 4 }}
spec:
  policyName: {{ .name }}
  # Audit too: a refusal means that an account is misused, or that Miyako has a bug.
  validationActions: [Deny, Audit]
{{- end }}
