"""The names of all options by section, made by `python -m tools.options names`."""

NAMES = {
    "DEFAULT": (
        "allow_resize_to_same_host compute_driver config_drive_format cpu_allocation_ratio debug "
        "default_availability_zone default_ephemeral_format default_schedule_zone disk_allocation_ratio "
        "enable_new_services force_config_drive force_raw_images heal_instance_info_cache_interval host "
        "initial_cpu_allocation_ratio initial_disk_allocation_ratio initial_ram_allocation_ratio "
        "instances_path internal_service_availability_zone log_file max_concurrent_builds metadata_listen "
        "metadata_listen_port mkisofs_cmd my_ip my_shared_fs_storage_ip preallocate_images "
        "ram_allocation_ratio reclaim_instance_interval report_interval reserved_host_cpus "
        "reserved_host_disk_mb reserved_host_memory_mb resize_confirm_window resume_guests_state_on_host_boot "
        "service_down_time shelved_offload_time shutdown_timeout state_path sync_power_state_interval "
        "transport_url update_resources_interval use_cow_images use_json vif_plugging_is_fatal "
        "vif_plugging_timeout web "
    ),
    "api": (
        "auth_strategy compute_link_prefix config_drive_skip_versions dhcp_domain drain_timeout "
        "enable_instance_password glance_link_prefix list_records_by_skipping_down_cells "
        "local_metadata_per_cell max_in_flight max_limit metadata_cache_expiration rate_limit "
        "rate_limit_burst request_timeout use_forwarded_for vendordata_dynamic_connect_timeout "
        "vendordata_dynamic_failure_fatal vendordata_dynamic_read_timeout vendordata_dynamic_ssl_certfile "
        "vendordata_dynamic_targets vendordata_jsonfile_path vendordata_providers worker_threads "
    ),
    "api_database": ("connection max_overflow max_pool_size pool_timeout "),
    "barbican": (
        "auth_section auth_type barbican_endpoint barbican_endpoint_type barbican_region_name cafile certfile "
        "endpoint_override insecure keyfile number_of_retries region_name retry_delay service_name "
        "service_type timeout valid_interfaces verify_ssl verify_ssl_path "
    ),
    "cache": ("backend enabled expiration_time memcache_servers memcache_socket_timeout "),
    "cells": ("build_patience server_patience "),
    "cinder": (
        "auth_section auth_type cafile certfile endpoint_override insecure keyfile region_name service_name "
        "service_type timeout valid_interfaces "
    ),
    "companions": ("data_path volume_capacity_gb volume_export volume_export_group "),
    "compute": ("vmdk_allowed_types "),
    "conductor": ("workers "),
    "console": ("allowed_origins "),
    "consoleauth": ("enforce_session_timeout token_ttl "),
    "cors": ("allow_credentials allow_headers allow_methods allowed_origin expose_headers max_age "),
    "database": ("connection max_overflow max_pool_size pool_timeout "),
    "filter_scheduler": (
        "aggregate_image_properties_isolation_namespace aggregate_image_properties_isolation_separator "
        "build_failure_weight_multiplier cpu_weight_multiplier disk_weight_multiplier enabled_filters "
        "host_subset_size hypervisor_version_weight_multiplier image_properties_default_architecture "
        "io_ops_weight_multiplier isolated_hosts isolated_images max_instances_per_host max_io_ops_per_host "
        "num_instances_weight_multiplier ram_weight_multiplier restrict_isolated_hosts_to_isolated_images "
        "shuffle_best_same_weighed_hosts soft_affinity_weight_multiplier soft_anti_affinity_weight_multiplier "
        "weight_classes "
    ),
    "glance": (
        "auth_section auth_type cafile certfile default_trusted_certificate_ids enable_certificate_validation "
        "endpoint_override insecure keyfile region_name service_name service_type timeout valid_interfaces "
        "verify_glance_signatures "
    ),
    "image_cache": (
        "manager_interval precache_concurrency remove_unused_base_images remove_unused_original_minimum_age_seconds "
    ),
    "key_manager": ("backend "),
    "keystone_authtoken": (
        "auth_section auth_type cafile certfile endpoint_override insecure keyfile region_name service_name "
        "service_token_roles service_type timeout token_cache_time valid_interfaces www_authenticate_uri "
    ),
    "libvirt": (
        "connection_uri cpu_mode cpu_model_extra_flags cpu_models device_detach_attempts "
        "device_detach_timeout disk_cachemodes file_backed_memory hw_disk_discard hw_machine_type images_type "
        "mem_stats_period_seconds name_prefix nbd_reconnect_seconds num_pcie_ports num_volume_scan_tries "
        "rng_dev_path user_networking virt_type volume_root_helper volume_use_multipath "
        "wait_soft_reboot_seconds "
    ),
    "manila": (
        "auth_section auth_type cafile certfile endpoint_override insecure keyfile region_name service_name "
        "service_type share_apply_policy_timeout timeout valid_interfaces "
    ),
    "neutron": (
        "auth_section auth_type cafile certfile endpoint_override insecure keyfile "
        "metadata_proxy_shared_secret region_name service_metadata_proxy service_name service_type timeout "
        "valid_interfaces "
    ),
    "nova": (
        "auth_section auth_type cafile certfile endpoint_override insecure keyfile region_name service_name "
        "service_type timeout valid_interfaces "
    ),
    "oslo_limit": (
        "auth_section auth_type cafile certfile endpoint_id endpoint_override endpoint_region_name "
        "endpoint_service_type insecure keyfile region_name service_name service_type timeout "
        "valid_interfaces "
    ),
    "oslo_middleware": ("enable_proxy_headers_parsing max_request_body_size "),
    "oslo_policy": ("enforce_new_defaults enforce_scope policy_dirs policy_file "),
    "oslo_reports": ("log_dir "),
    "placement": (
        "auth_section auth_type cafile certfile endpoint_override insecure keyfile region_name service_name "
        "service_type timeout valid_interfaces "
    ),
    "placement_audit": ("interval "),
    "quota": (
        "cores driver injected_file_content_bytes injected_file_path_length injected_files instances "
        "key_pairs metadata_items ram server_group_members server_groups unified_limits_resource_list "
        "unified_limits_resource_strategy "
    ),
    "retention": ("archived_days deleted_days purge "),
    "scheduler": (
        "cells_per_project cells_refresh_interval discover_hosts_in_cells_interval "
        "enable_isolated_aggregate_filtering keep_placement_notes limit_tenants_to_placement_aggregate "
        "max_attempts placement_aggregate_required_for_tenants query_placement_for_image_type_support "
    ),
    "secrets": ("keys "),
    "serial_console": ("base_url enabled port_range proxyclient_address "),
    "service_user": (
        "auth_section auth_type cafile certfile endpoint_override insecure keyfile region_name service_name "
        "service_type timeout valid_interfaces "
    ),
    "simulated": (
        "boot_seconds disk_gib faults_file host_boot_seconds jitter live_seconds memory_mib move_seconds "
        "vcpus verb_seconds watch_seconds "
    ),
    "spice": ("enabled html5proxy_base_url server_listen server_proxyclient_address spice_direct_proxy_base_url "),
    "ssl": ("ca_file cert_file key_file "),
    "vendordata_dynamic_auth": (
        "auth_section auth_type cafile certfile endpoint_override insecure keyfile region_name service_name "
        "service_type timeout valid_interfaces "
    ),
    "vnc": (
        "auth_schemes enabled novncproxy_base_url server_listen server_proxyclient_address vencrypt_ca_certs "
        "vencrypt_client_cert vencrypt_client_key "
    ),
    "wiring": ("enabled hypervisors interval metadata_url name secret uplink "),
    "wsgi": ("client_socket_timeout max_connections_per_client "),
}
