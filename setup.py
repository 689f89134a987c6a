"""Polycell: a cells-first compute service that speaks the OpenStack Compute API."""

from pathlib import Path

from setuptools import find_packages, setup

KEYS = ["castellan>=5.0"]
LIBVIRT = ["libvirt-python>=9.0", "os-brick>=7.0", *KEYS]
CLIENTS = ["python-openstackclient>=7", "osc-placement>=4", "openstacksdk>=4", *KEYS]
TEST = [
    *CLIENTS,
    "gabbi>=4",
    "hypothesis>=6.100",
    "jsonschema>=4.20",
    "jsonschema-rs>=0.30",
    "pytest>=8",
    "pytest-randomly>=3.15",
    "pytest-xdist>=3.6",
    "pytest-timeout>=2.2",
    "python-novaclient>=18",
    "schemathesis>=4.0",
]

setup(
    name="polycell",
    version="0.1.0",
    description="A compute service in the shape of OpenStack Nova, built cells-first",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(
        include=[
            package
            for name in ("api_cell", "cell_service", "compute_host", "mapping_db", "tools")
            for package in (name, f"{name}.*")
        ]
    ),
    package_data={
        "cell_service": ["py.typed"],
        "cell_service.consoles": ["web/*", "web/**/*"],
        "compute_host": ["py.typed"],
        "mapping_db": ["py.typed"],
        "api_cell": ["py.typed"],
        "api_cell.compute.web": ["*.html", "*.css", "*.js", "*.ico", "swagger_ui/*"],
        "tools": ["py.typed"],
        "tools.hypervisors": ["*.sh"],
        "tools.guest": ["build.sh", "init", "lease", "power", "chpasswd", "fsfreeze-hook", "*.awk", "packages.txt"],
    },
    data_files=[("share/man/man1", sorted(map(str, Path("docs/man").glob("*.1"))))],
    install_requires=[
        "alembic>=1.13",
        "bcrypt>=4",
        "cryptography>=42",
        "dogpile.cache>=1.3",
        "fastjsonschema>=2.20",
        "keystoneauth1>=5.6",
        "os-resource-classes>=1.1",
        "os-traits>=3.0",
        "oslo.config>=9.4",
        "oslo.policy>=4.3",
        "oslo.utils>=8.0",
        "pika>=1.3.2",
        "prometheus-client>=0.22",
        "psycopg[binary]>=3.1",
        "pymemcache>=4.0",
        "pymysql>=1.1",
        "PyYAML>=6",
        "requests>=2.31",
        "rich>=13",
        "setproctitle>=1.3",
        "shtab>=1.7",
        "SQLAlchemy>=2.0.30",
        "tornado>=6.4",
    ],
    extras_require={
        "libvirt": LIBVIRT,
        "clients": CLIENTS,
        "test": TEST,
        "dev": [*TEST, "mypy>=1.10", "ruff>=0.5", "types-PyMySQL", "types-PyYAML"],
    },
    entry_points={
        "console_scripts": [
            "polycell = tools.up.main:main",
            "polycell-manage = tools.manage.main:main",
            "polycell-policy = tools.policy:main",
            "polycell-status = tools.manage.status:main",
        ],
        "oslo.config.opts": ["polycell = tools.options:list_opts"],
        "oslo.policy.policies": ["polycell = tools.policy:list_rules"],
    },
)
