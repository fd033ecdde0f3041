"""One switch between nested submodules (for Amaranth's simulator) and modules defined once (for export).

Amaranth elaborates every submodule anew, so an array of identical columns would be exported identical column
after column. A parent that adds its repeated children with `add_repeated` gets them as submodules normally, and
as black-box instances of one shared module when it is elaborated on `DefineOnce`; the exporter then converts
each collected component a single time.
"""

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Shape, Value
from amaranth.lib import wiring


class Repeated(wiring.Component):
    """A component of which a design holds many equal copies.

    Class or instance attributes:

    module_name  the Verilog module's name; equal names must mean equal hardware
    clocked      False where the component is combinational and so has no clk and rst ports
    """

    module_name: str
    clocked: bool = True


class DefineOnce:
    """The platform of an export: turns repeated children into instances and remembers what to define.

    definitions  module name -> one component to convert, children before parents once converted in turn
    """

    def __init__(self):
        self.definitions: dict[str, Repeated] = {}

    def instance(self, component: Repeated) -> Instance:
        """An instance of ``component``'s module, wired to this component's own port signals."""
        known = self.definitions.setdefault(component.module_name, component)
        if (type(known), _ports(known)) != (type(component), _ports(component)):
            raise ValueError(f"two different modules are called {component.module_name}")
        component._MustUse__silence = True  # copies are not elaborated: their one definition is
        ports = {}
        values = (Value.cast(value) for _, _, value in component.signature.flatten(component))
        for (name, flow, shape), value in zip(_ports(component), values, strict=True):
            if not shape.width:
                continue  # Verilog has no port of no width
            direction = "i" if flow is wiring.In else "o"
            ports[f"{direction}_{name}"] = value
        if component.clocked:
            ports |= {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
        return Instance(component.module_name, **ports)


def _ports(component: wiring.Component) -> list[tuple[str, wiring.Flow, Shape]]:
    """Name, direction and shape of each port. Signatures of a class of their own are only ever equal to themselves."""
    return [
        ("__".join(map(str, path)), member.flow, Shape.cast(member.shape))
        for path, member, _ in component.signature.flatten(component)
    ]


def add_repeated(m: Module, name: str, component: Repeated, platform: object) -> None:
    """Add ``component`` to ``m`` under ``name``: an instance where ``platform`` is DefineOnce, else a submodule."""
    m.submodules[name] = platform.instance(component) if isinstance(platform, DefineOnce) else component
