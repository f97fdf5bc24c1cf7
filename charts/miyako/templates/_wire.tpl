{{- /*
What those mount who tell the operator something: a token, and the authority of its certificate.
include "miyako.wire.volumes" (dict "root" $ "optional" true): start without the authority, and dial once it is there.
*/ -}}
{{- define "miyako.wire.volumes" -}}
# Good for the operator alone, bound to this pod and so to this node, and renewed by the kubelet.
- name: token
  projected:
    sources:
      - serviceAccountToken:
          path: token
          audience: miyako.dev
          expirationSeconds: 3600
- name: ca
  {{- if .root.Values.wire.tlsSecret }}
  # The authority alone: the key next to it is the operator's.
  secret:
    secretName: {{ .root.Values.wire.tlsSecret }}
    {{- if .optional }}
    optional: true
    {{- end }}
    items:
      - key: ca.crt
        path: ca.crt
  {{- else }}
  configMap:
    name: miyako-wire-ca
    {{- if .optional }}
    optional: true
    {{- end }}
  {{- end }}
{{- end }}
